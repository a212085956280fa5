//! Integration tests of the public interface.

mod fixtures;
mod keystore;
mod openings;
mod oracle;
mod properties;
mod strictness;
mod unlinkability;
mod vectors;
