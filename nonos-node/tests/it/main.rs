//! Integration tests of the composition.

mod demo;
mod disclosure;
mod domains;
mod key;
mod records;
mod wasm_prover;
