use minicbor::{Decode, Encode};

use super::{Revocation, RevocationError, contradict};
use crate::key::NodeId;
use crate::network::NetworkId;
use crate::verified::{Unverified, Verified};
use crate::wire::Wire;

/// Two lists that a root signed and that contradict each other. It proves itself: either somebody
/// else has the root key, or its owner lies; in both cases nothing the root says counts.
///
/// Wire form: `[list, list]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RevocationEquivocation {
    #[n(0)]
    pub(super) one: Revocation,
    #[n(1)]
    pub(super) two: Revocation,
}

impl Wire for RevocationEquivocation {
    const MAX_BYTES: usize = 2 * Revocation::MAX_BYTES + 1;
}

/// What is presented as an equivocation and is none; the fault of whoever presented it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EquivocationError {
    /// One of the lists does not count.
    #[error(transparent)]
    List(#[from] RevocationError),
    /// An honest root can have signed both.
    #[error("the two do not contradict each other")]
    NoContradiction,
}

impl RevocationEquivocation {
    /// The node that contradicted itself.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.one.node()
    }
}

impl Unverified<RevocationEquivocation> {
    /// Checks both signatures and the contradiction.
    ///
    /// # Errors
    /// [`EquivocationError`] if it proves nothing.
    pub fn check_equivocation(
        self,
        network: &NetworkId,
    ) -> Result<Verified<RevocationEquivocation>, EquivocationError> {
        self.check(|RevocationEquivocation { one, two }| {
            if one.node() != two.node() {
                return Err(RevocationError::OtherRoot.into());
            }
            one.verify(network)?;
            two.verify(network)?;
            if contradict(one, two) || contradict(two, one) {
                Ok(())
            } else {
                Err(EquivocationError::NoContradiction)
            }
        })
    }
}
