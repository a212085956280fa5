//! Metering: a WASM module in, the same module with gas, depth and ticks out.

/// Version of the transformation; it enters every checkpoint chain.
pub const VERSION: u16 = 1;
/// Number of the price table.
pub const GAS_SCHEDULE: u16 = 1;
/// Prefix of the names the transformation adds; a module that uses it is refused.
pub const RESERVED: &str = "__nonos_";
