//! Integration tests of the public interface.

mod fixtures;
mod keystore;
mod oracle;
mod power;
mod properties;
mod slots;
mod strictness;
mod vectors;
