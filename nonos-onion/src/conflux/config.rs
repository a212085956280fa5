use core::time::Duration;

use crate::conflux::frame::SEGMENT_BYTES;

/// What sessions may hold. By default one that is filled on purpose holds 8 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes that may arrive without being read, in order or not, when a session begins; at least
    /// [`Config::FIRST_CREDIT_BYTES`].
    pub receive_bytes: usize,
    /// What that grows to for a reader that keeps up. Bounds the memory of a reader that then stops, and of a
    /// peer that sends far offsets and never the first one.
    pub receive_max_bytes: usize,
    /// Bytes written and not acknowledged. Bounds the memory that a peer which never acknowledges can hold.
    pub send_bytes: usize,
    /// How long a session may be without any leg. Less at the client than at the server, so that no client
    /// returns to a session that is forgotten.
    pub patience: Duration,
    /// Server: bytes held for all sessions. Beyond, those that hold most end first. Against many sessions that
    /// each keep to their own limits.
    pub memory_bytes: usize,
    /// Server: sessions of the node. Against exhaustion of memory.
    pub sessions: usize,
    /// Server: sessions that one circuit may have opened and that live. Against one client that opens
    /// all there are.
    pub sessions_per_circuit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_bytes: 512 << 10,
            receive_max_bytes: 4 << 20,
            send_bytes: 4 << 20,
            patience: Duration::from_secs(120),
            memory_bytes: 256 << 20,
            sessions: 256,
            sessions_per_circuit: 4,
        }
    }
}

/// What is wrong with a configuration. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Less than what the other end may send before it knows more, or less than at the start.
    #[error("receive bytes are below {least}")]
    Receive {
        /// The least.
        least: usize,
    },
    /// Room for less than one segment.
    #[error("send bytes are below {SEGMENT_BYTES}")]
    Send,
    /// A limit that must not be zero is.
    #[error("limit `{0}` is zero")]
    Zero(&'static str),
}

impl Config {
    /// What a client sends before the server has said how much it takes.
    pub const FIRST_CREDIT_BYTES: usize = 64 << 10;

    /// Legs of a session at a time: two, and their successors.
    pub const MAX_LEGS: usize = 4;

    /// Segments sent and not acknowledged in order. Bounds the gaps that a receiver keeps, so that nobody
    /// fills its memory with pieces of one byte.
    pub const MAX_SEGMENTS: usize = 1024;

    /// A client's default: patience below that of a server.
    #[must_use]
    pub fn client() -> Self {
        Self { patience: Duration::from_secs(90), ..Self::default() }
    }

    /// Checks that the limits work together.
    ///
    /// # Errors
    /// [`ConfigError`] names what does not.
    pub const fn check(&self) -> Result<(), ConfigError> {
        if self.receive_bytes < Self::FIRST_CREDIT_BYTES {
            return Err(ConfigError::Receive { least: Self::FIRST_CREDIT_BYTES });
        }
        if self.receive_max_bytes < self.receive_bytes {
            return Err(ConfigError::Receive { least: self.receive_bytes });
        }
        if self.send_bytes < SEGMENT_BYTES {
            return Err(ConfigError::Send);
        }
        if self.patience.is_zero() {
            return Err(ConfigError::Zero("patience"));
        }
        if self.memory_bytes == 0 {
            return Err(ConfigError::Zero("memory_bytes"));
        }
        if self.sessions == 0 {
            return Err(ConfigError::Zero("sessions"));
        }
        if self.sessions_per_circuit == 0 {
            return Err(ConfigError::Zero("sessions_per_circuit"));
        }
        Ok(())
    }
}
