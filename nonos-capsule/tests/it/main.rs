//! The integration tests, one binary.

mod attacks;
mod container;
mod metering;
mod properties;
mod run;
mod support;
