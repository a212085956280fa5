use core::fmt;

use zeroize::Zeroizing;

use crate::signer::SignerError;

/// The 64 bytes from which every key of a node is derived. Wiped on drop; boxed, so that moving
/// it leaves no copies behind.
#[derive(Clone)]
pub struct Seed(Box<Zeroizing<[u8; Self::BYTES]>>);

impl Seed {
    /// Length in bytes (the output length of BIP39 and of HMAC-SHA512).
    pub const BYTES: usize = 64;

    /// From its bytes; the caller wipes its own copy.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(Box::new(Zeroizing::new(*bytes)))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Whether no random generator ever filled it.
    pub(crate) fn is_zero(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Where the seed of a node's role keys comes from: an opened keystore, or a token that derives
/// it from a secret it never shows. It is the same seed each time.
///
/// The seed of a token gives role keys only; the root key stays in the token and signs through
/// [`RootSigner`](crate::RootSigner). Build the role keys with
/// [`RoleKeys::from_seed`](crate::RoleKeys::from_seed), not an [`Identity`](crate::Identity),
/// whose root would be another one.
pub trait SeedSource: Send + Sync {
    /// The seed. May block.
    ///
    /// # Errors
    /// [`SignerError`].
    fn seed(&self) -> Result<Seed, SignerError>;
}
