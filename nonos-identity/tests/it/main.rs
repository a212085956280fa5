//! Integration tests of the public interface.

mod fixtures;
mod keystore;
mod oracle;
mod properties;
mod strictness;
mod vectors;
