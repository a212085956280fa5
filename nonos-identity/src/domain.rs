//! Domain separation: one constant per signing or hashing purpose.

/// A domain-separation string of the form `nonos/<crate>/<purpose>/v<n>`.
///
/// Every signature and every structured hash starts with one. The strings of all crates are
/// unique and none is a prefix of another, so a byte string made for one purpose never means
/// anything for a second one. Changing a string is a breaking change of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(&'static str);

impl Domain {
    /// Names a domain. Crates keep theirs as constants in one `domains` module.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The bytes that enter the hash or the signature.
    #[must_use]
    pub const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// The domains of this crate.
pub mod domains {
    use super::Domain;

    /// Root signature over a role certificate.
    pub const CERTIFICATE: Domain = Domain::new("nonos/identity/certificate/v1");
    /// Subject's proof of possession inside a certificate.
    pub const POSSESSION: Domain = Domain::new("nonos/identity/possession/v1");
    /// Associated data of the encrypted keystore.
    pub const KEYSTORE: Domain = Domain::new("nonos/identity/keystore/v1");
    /// Hash of a network's name into its id.
    pub const NETWORK_NAME: Domain = Domain::new("nonos/identity/network-name/v1");
    /// Derivation of the network-context transport key.
    pub const CONTEXT_KEY: Domain = Domain::new("nonos/identity/context-key/v1");

    /// Every domain above, for the workspace-wide uniqueness test.
    pub const ALL: &[Domain] = &[CERTIFICATE, POSSESSION, KEYSTORE, NETWORK_NAME, CONTEXT_KEY];
}
