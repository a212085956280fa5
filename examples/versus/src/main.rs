//! Comparisons with other engines.
fn main() {}
