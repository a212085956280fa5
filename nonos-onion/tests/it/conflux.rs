//! Streams on several circuits.

mod rollover;
mod session;
mod simulated;
