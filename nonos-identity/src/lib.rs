#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod digest;
mod domain;
mod envelope;
mod hex;
mod key;
mod network;
mod time;
mod verified;
pub mod wire;

pub use crate::digest::{Digest, WideDigest};
pub use crate::domain::{Domain, domains};
pub use crate::envelope::{Envelope, EnvelopeError, Header};
pub use crate::hex::ParseHexError;
pub use crate::key::{AdmitError, NodeId, PublicKey, Signature, SignatureError, SigningKey};
pub use crate::network::NetworkId;
pub use crate::time::{Epoch, Timestamp};
pub use crate::verified::{Unverified, Verified};
