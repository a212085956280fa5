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
mod process;
mod records;
mod services;
mod transit;
mod wasm_prover;
