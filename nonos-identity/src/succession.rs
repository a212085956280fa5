use minicbor::{Decode, Encode};

use crate::domains::SUCCESSION;
use crate::key::{NodeId, PublicKey, Signature};
use crate::network::NetworkId;
use crate::signer::{RootSigner, SignerError};
use crate::time::Epoch;
use crate::verified::{Unverified, Verified};
use crate::wire::{self, V1, Wire};

/// What both roots sign.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Terms {
    #[n(0)]
    version: V1,
    #[n(1)]
    old: PublicKey,
    #[n(2)]
    new: PublicKey,
    #[n(3)]
    effective: Epoch,
}

impl Wire for Terms {
    const MAX_BYTES: usize = 96;
}

/// A statement that from an epoch on a node goes by another root key. Both keys sign: nobody
/// inherits a name without its owner, nor is given one they did not ask for.
///
/// A thief of the old key can name a successor too. Two successors are an equivocation, which
/// [`Succession::follow`] refuses; a [`Suicide`](crate::Suicide) of the old key outweighs any.
///
/// Wire form: `[[version, old, new, effective], old_signature, new_signature]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Succession {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    by_old: Signature,
    #[n(2)]
    by_new: Signature,
}

impl Wire for Succession {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 2 * 66 + 1;
}

/// Why a succession was not signed or does not count, or why a chain cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// A root cannot follow itself.
    #[error("a root cannot succeed itself")]
    SameRoot,
    /// The old root did not sign it for this network.
    #[error("signature of the old root does not verify")]
    OldSignature,
    /// The new root did not sign it for this network.
    #[error("signature of the new root does not verify")]
    NewSignature,
    /// A root named two successors: a thief, or a lie. Nobody can tell which one counts.
    #[error("node {} named two successors", .0.short())]
    TwoSuccessors(NodeId),
    /// More than [`Succession::MAX_LINKS`] in a row, or a circle.
    #[error("more than {} successions in a row", Succession::MAX_LINKS)]
    TooLong,
    /// The holder of a root key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

impl Succession {
    /// Most successions followed in a row. It bounds the work that a chain can cause, and ends
    /// circles.
    pub const MAX_LINKS: usize = 32;

    /// Lets `old` hand over to `new` at the start of `effective`.
    ///
    /// # Errors
    /// [`SuccessionError::SameRoot`], the caller's fault, or [`SuccessionError::Signer`].
    pub fn sign(
        old: &dyn RootSigner,
        new: &dyn RootSigner,
        effective: Epoch,
        network: &NetworkId,
    ) -> Result<Self, SuccessionError> {
        let terms = Terms { version: V1, old: old.public(), new: new.public(), effective };
        if terms.old == terms.new {
            return Err(SuccessionError::SameRoot);
        }
        let bytes = wire::to_bytes(&terms);
        let by_old = old.sign_root(SUCCESSION, network, &bytes)?;
        let by_new = new.sign_root(SUCCESSION, network, &bytes)?;
        Ok(Self { terms, by_old, by_new })
    }

    /// By which root a node goes in an epoch, starting from one we know. `links` may be in any order
    /// and hold those of other nodes.
    ///
    /// # Errors
    /// [`SuccessionError::TwoSuccessors`] or [`SuccessionError::TooLong`].
    pub fn follow(start: NodeId, links: &[Verified<Self>], at: Epoch) -> Result<NodeId, SuccessionError> {
        let mut node = start;
        for _ in 0..=Self::MAX_LINKS {
            let mut next = None;
            for link in links.iter().filter(|link| link.old() == node) {
                match next {
                    None => next = Some(link),
                    Some(other) if other.terms == link.terms => {}
                    Some(_) => return Err(SuccessionError::TwoSuccessors(node)),
                }
            }
            match next {
                Some(link) if link.effective() <= at => node = link.new_node(),
                _ => return Ok(node),
            }
        }
        Err(SuccessionError::TooLong)
    }

    /// The node that hands over.
    #[must_use]
    pub const fn old(&self) -> NodeId {
        self.terms.old.node_id()
    }

    /// The node that takes over.
    #[must_use]
    pub const fn new_node(&self) -> NodeId {
        self.terms.new.node_id()
    }

    /// The first epoch in which it counts.
    #[must_use]
    pub const fn effective(&self) -> Epoch {
        self.terms.effective
    }
}

impl Unverified<Succession> {
    /// Checks both signatures.
    ///
    /// # Errors
    /// [`SuccessionError`] names the first check that failed.
    pub fn check_signed(self, network: &NetworkId) -> Result<Verified<Succession>, SuccessionError> {
        self.check(|Succession { terms, by_old, by_new }| {
            if terms.old == terms.new {
                return Err(SuccessionError::SameRoot);
            }
            let bytes = wire::to_bytes(terms);
            terms
                .old
                .verify(SUCCESSION, network, &bytes, by_old)
                .map_err(|_| SuccessionError::OldSignature)?;
            terms.new.verify(SUCCESSION, network, &bytes, by_new).map_err(|_| SuccessionError::NewSignature)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn node(seed: u8) -> NodeId {
        key(seed).public().node_id()
    }

    fn epoch(number: u64) -> Epoch {
        Epoch::from_number(number)
    }

    fn sign(old: u8, new: u8, effective: u64) -> Succession {
        Succession::sign(&key(old), &key(new), epoch(effective), &net()).expect("two roots")
    }

    fn link(old: u8, new: u8, effective: u64) -> Verified<Succession> {
        Unverified::new(sign(old, new, effective)).check_signed(&net()).expect("signed")
    }

    #[test]
    fn a_chain_is_followed_up_to_the_epoch() {
        let links = [link(3, 4, 30), link(1, 2, 10), link(7, 8, 1), link(2, 3, 20), link(1, 2, 10)];
        for (at, expected) in [(9, 1), (10, 2), (19, 2), (20, 3), (29, 3), (30, 4), (u64::MAX, 4)] {
            assert_eq!(Succession::follow(node(1), &links, epoch(at)), Ok(node(expected)), "{at}");
        }
        assert_eq!(Succession::follow(node(3), &links, epoch(25)), Ok(node(3)));
        assert_eq!(Succession::follow(node(9), &links, epoch(25)), Ok(node(9)));
    }

    #[test]
    fn two_successors_are_refused_even_before_they_count() {
        let links = [link(1, 2, 10), link(1, 3, 99)];
        for at in [9, 10, 99] {
            assert_eq!(
                Succession::follow(node(1), &links, epoch(at)),
                Err(SuccessionError::TwoSuccessors(node(1)))
            );
        }
        let two_times = [link(1, 2, 10), link(1, 2, 11)];
        assert_eq!(
            Succession::follow(node(1), &two_times, epoch(50)),
            Err(SuccessionError::TwoSuccessors(node(1)))
        );
    }

    #[test]
    fn circles_and_endless_chains_end() {
        let circle = [link(1, 2, 10), link(2, 1, 20)];
        assert_eq!(Succession::follow(node(1), &circle, epoch(15)), Ok(node(2)));
        assert_eq!(Succession::follow(node(1), &circle, epoch(20)), Err(SuccessionError::TooLong));
        let chain: Vec<_> = (1..=33).map(|at| link(at, at + 1, 0)).collect();
        assert_eq!(Succession::follow(node(1), &chain[..32], epoch(0)), Ok(node(33)));
        assert_eq!(Succession::follow(node(1), &chain, epoch(0)), Err(SuccessionError::TooLong));
    }

    #[test]
    fn both_roots_have_to_sign_in_this_network() {
        let honest = sign(1, 2, 10);
        let check = |it: Succession| Unverified::new(it).check_signed(&net()).map(|_| ());
        assert_eq!(check(honest.clone()), Ok(()));
        let other = sign(3, 2, 10);
        let stolen = Succession { by_old: other.by_old, ..honest.clone() };
        assert_eq!(check(stolen), Err(SuccessionError::OldSignature));
        let unasked = Succession { by_new: honest.by_old, ..honest.clone() };
        assert_eq!(check(unasked), Err(SuccessionError::NewSignature));
        let elsewhere = Unverified::new(honest).check_signed(&NetworkId::from_name("other"));
        assert_eq!(elsewhere, Err(SuccessionError::OldSignature));
        let itself = Succession::sign(&key(1), &key(1), epoch(1), &net());
        assert_eq!(itself, Err(SuccessionError::SameRoot));
    }

    #[test]
    fn no_altered_bit_is_accepted() {
        let end = Succession::sign(&key(1), &key(2), epoch(u64::MAX), &net()).expect("two roots");
        let bytes = wire::to_bytes(&end);
        assert!(bytes.len() <= Succession::MAX_BYTES);
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome =
                wire::from_bytes::<Succession>(&altered).map(|it| Unverified::new(it).check_signed(&net()));
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {at}");
        }
    }
}
