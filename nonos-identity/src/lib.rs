#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod certificate;
mod digest;
mod disk;
mod domain;
pub mod domains;
mod envelope;
pub mod exec;
pub mod hd;
mod hex;
mod identity;
mod key;
pub mod keystore;
pub mod memory;
mod network;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
mod role;
mod seed;
mod signer;
pub mod slot_log;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
#[cfg(feature = "tpm2")]
pub mod tpm2;
mod verified;
pub mod wire;

pub use crate::address::{OnionAddress, OnionAddressError, OnionNetwork};
pub use crate::certificate::{Certificate, CertificateError};
pub use crate::digest::{Digest, WideDigest};
pub use crate::domain::Domain;
pub use crate::envelope::{Envelope, EnvelopeError, Header};
pub use crate::exec::{IdCommitment, Opening, OpeningError};
pub use crate::hex::ParseHexError;
pub use crate::identity::{Identity, RoleKeys, SmallOrderError, StaticSecret};
pub use crate::key::{AdmitError, NodeId, PublicKey, Signature, SignatureError, SigningKey};
pub use crate::network::NetworkId;
pub use crate::role::Role;
pub use crate::seed::{Seed, SeedSource};
pub use crate::signer::{RootSigner, SignerError};
pub use crate::slot_log::{FileSlotLog, SlotError, SlotLog};
pub use crate::time::{Epoch, Timestamp};
pub use crate::verified::{Unverified, Verified};
