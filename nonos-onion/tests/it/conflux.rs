//! Streams on several circuits.

mod driver;
mod rollover;
mod session;
mod simulated;
