#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod binding;
mod certificate;
mod digest;
mod disk;
mod domain;
pub mod domains;
mod envelope;
pub mod exec;
mod expiry;
pub mod hd;
mod hex;
mod identity;
mod key;
pub mod keystore;
pub mod memory;
mod network;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
mod presigned;
mod revocation;
mod role;
mod sealed_box;
mod seed;
mod signer;
pub mod slot_log;
mod succession;
mod suicide;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
#[cfg(feature = "tpm2")]
pub mod tpm2;
mod verified;
pub mod wire;

pub use crate::address::{OnionAddress, OnionAddressError, OnionNetwork};
pub use crate::binding::{Binding, BindingError};
pub use crate::certificate::{Certificate, CertificateError, CertificateRequest};
pub use crate::digest::{Digest, RunningDigest, WideDigest};
pub use crate::domain::Domain;
pub use crate::envelope::{Envelope, EnvelopeError, Header};
pub use crate::exec::{
    EpochHead, ExecutionSlots, IdCommitment, Opening, OpeningError, PublicRun, RunIdentity,
};
pub use crate::expiry::Expiry;
pub use crate::hex::ParseHexError;
pub use crate::identity::{Identity, RoleKeys, SmallOrderError, StaticSecret};
pub use crate::key::{AdmitError, NodeId, PublicKey, ScalarError, Signature, SignatureError, SigningKey};
pub use crate::network::NetworkId;
pub use crate::presigned::{Batch, BatchError, Presigned, SupplyError};
pub use crate::revocation::{
    EquivocationError, Merge, Revocation, RevocationEquivocation, RevocationError, RevokedError,
};
pub use crate::role::Role;
pub use crate::sealed_box::{SealError, SealedBox, SharedBox};
pub use crate::seed::{Seed, SeedSource};
pub use crate::signer::{RootSigner, SignerError};
pub use crate::slot_log::{FileSlotLog, SlotError, SlotLog};
pub use crate::succession::{Succession, SuccessionError};
pub use crate::suicide::Suicide;
pub use crate::time::{Epoch, Timestamp};
pub use crate::verified::{Unverified, Verified};
