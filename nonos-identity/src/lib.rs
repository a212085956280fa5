#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod certificate;
mod digest;
mod domain;
pub mod domains;
mod envelope;
pub mod exec;
pub mod hd;
mod hex;
mod identity;
mod key;
pub mod keystore;
mod network;
mod role;
mod signer;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod verified;
pub mod wire;

pub use crate::address::{OnionAddress, OnionAddressError, OnionNetwork};
pub use crate::certificate::{Certificate, CertificateError};
pub use crate::digest::{Digest, WideDigest};
pub use crate::domain::Domain;
pub use crate::envelope::{Envelope, EnvelopeError, Header};
pub use crate::exec::{IdCommitment, Opening, OpeningError};
pub use crate::hex::ParseHexError;
pub use crate::identity::{Identity, SmallOrderError, StaticSecret};
pub use crate::key::{AdmitError, NodeId, PublicKey, Signature, SignatureError, SigningKey};
pub use crate::network::NetworkId;
pub use crate::role::Role;
pub use crate::signer::{RootSigner, SignerError};
pub use crate::time::{Epoch, Timestamp};
pub use crate::verified::{Unverified, Verified};
