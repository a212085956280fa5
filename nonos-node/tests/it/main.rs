//! Integration tests of the composition.

mod demo;
mod disclosure;
mod dispute;
mod domains;
mod key;
mod operators;
mod records;
