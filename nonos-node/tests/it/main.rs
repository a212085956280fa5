//! Integration tests of the composition.

mod command;
mod demo;
mod disclosure;
mod dispute;
mod domains;
mod fields;
mod key;
mod opening_records;
mod openings;
mod operators;
mod records;
mod wasm_prover;
