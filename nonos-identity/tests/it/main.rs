//! Integration tests of the public interface.

mod fixtures;
mod keystore;
mod openings;
mod oracle;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod power;
mod properties;
mod slots;
mod strictness;
#[cfg(feature = "tpm2")]
mod tpm2;
mod unlinkability;
mod vectors;
