//! The integration tests, one binary.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its helpers do")]

mod attacks;
mod compile;
mod container;
mod corpus;
mod differential;
mod disputes;
mod images;
mod libraries;
mod metering;
mod nan;
mod properties;
mod requirements;
mod run;
mod services;
mod support;
mod wasi;
mod wasi_corpus;
