//! Fault injection, strategies and the conformance kit, for this crate's tests and for embedders.
