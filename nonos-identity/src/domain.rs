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
