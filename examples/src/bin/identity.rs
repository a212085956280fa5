//! Derives a node's keys.
fn main() {}
