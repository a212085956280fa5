//! What a payload may contain: the deterministic profile v1 and the structural caps.

/// Structural caps: what compiling a module may cost, checked before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Functions; 100 000 empty ones cost a compiler 6 s and 550 MiB.
    pub functions_max: u32,
    /// Bytes of one function body.
    pub body_bytes_max: u32,
    /// Parameters and locals of one function.
    pub locals_max: u32,
    /// Nesting of blocks in one function.
    pub nesting_max: u32,
    /// Targets of one `br_table`.
    pub br_targets_max: u32,
    /// Bytes of all function bodies.
    pub code_bytes_max: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            functions_max: 20_000,
            body_bytes_max: 256 * 1_024,
            locals_max: 4_096,
            nesting_max: 1_024,
            br_targets_max: 16_384,
            code_bytes_max: 16 << 20,
        }
    }
}

/// Why a payload is not a module of profile v1. Its author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not a valid WASM module of the profile's features.
    #[error("invalid module at byte {offset}: {message}")]
    Invalid {
        /// Where.
        offset: u64,
        /// What, in the validator's words.
        message: String,
    },
    /// A valid module with an instruction outside the profile.
    #[error("{operator} in function {function} at byte {offset} is not allowed: {hint}")]
    Operator {
        /// Name of the instruction.
        operator: &'static str,
        /// Index of the function.
        function: u32,
        /// Where.
        offset: u64,
        /// What to do about it.
        hint: &'static str,
    },
    /// A part of the module outside the profile.
    #[error("{what} is not allowed: {hint}")]
    Feature {
        /// The part.
        what: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// Larger than a cap.
    #[error("{what}: {found} exceeds the cap of {limit}{}", function.map(|f| format!(" in function {f}")).unwrap_or_default())]
    Cap {
        /// Which cap.
        what: &'static str,
        /// Found in the module.
        found: u64,
        /// The cap.
        limit: u64,
        /// Index of the function, for caps on functions.
        function: Option<u32>,
    },
    /// A name with the prefix of the metering.
    #[error("name {0:?} is reserved")]
    ReservedName(String),
}
