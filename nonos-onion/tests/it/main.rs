//! Integration tests of `nonos-onion`.

mod circuits;
mod faults;
mod paths;
mod privacy;
mod properties;
