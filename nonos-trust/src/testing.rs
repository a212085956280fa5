//! Strategies and decoder fuzzing, for this crate's tests and for embedders.
