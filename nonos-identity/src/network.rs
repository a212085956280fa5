use core::fmt;

use crate::digest::Digest;
use crate::domains::NETWORK_NAME;
use crate::hex;

/// The 32-byte id of a mesh, mixed into every signature and handshake: two meshes never mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId([u8; 32]);

impl NetworkId {
    /// Derives the id from a human-chosen name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self(*Digest::of(NETWORK_NAME, &[name.as_bytes()]).as_bytes())
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({self})")
    }
}

hex::text_form!(NetworkId, 32);
crate::wire::fixed_bytes!(NetworkId, 32);
