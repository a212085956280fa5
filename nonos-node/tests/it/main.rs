//! Integration tests of the composition.

mod demo;
mod domains;
mod key;
mod records;
