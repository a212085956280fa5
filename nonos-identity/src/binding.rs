use core::time::Duration;

use minicbor::{Decode, Encode};

use crate::address::{OnionAddress, OnionNetwork};
use crate::certificate::Certificate;
use crate::domains::BINDING;
use crate::key::{NodeId, PublicKey, Signature, SigningKey};
use crate::network::NetworkId;
use crate::signer::{RootSigner, SignerError};
use crate::time::Timestamp;
use crate::verified::{Unverified, Verified};
use crate::wire::{self, V1, Wire};

/// What the three keys sign.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Terms {
    #[n(0)]
    version: V1,
    #[n(1)]
    root: PublicKey,
    #[n(2)]
    peer: PublicKey,
    #[n(3)]
    onion: OnionAddress,
    #[n(4)]
    network: NetworkId,
    #[n(5)]
    generation: u32,
    #[n(6)]
    not_before: Timestamp,
    #[n(7)]
    not_after: Timestamp,
}

impl Wire for Terms {
    const MAX_BYTES: usize = 176;
}

/// One operator's node, transport key and onion address, tied together: the root says so, and
/// both keys prove that they were asked.
///
/// It links what the layers keep apart, so it goes where the link may be known: into the first
/// message inside an onion connection, or to an auditor; never into gossip. An onion
/// descriptor has no room for it. A libp2p peer id is a form of the transport key.
///
/// Wire form: `[[version, root, peer, onion, network, generation, not_before, not_after],
/// root_signature, peer_signature, onion_signature]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Binding {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    by_root: Signature,
    #[n(2)]
    by_peer: Signature,
    #[n(3)]
    by_onion: Signature,
}

impl Wire for Binding {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 3 * 66 + 1;
}

/// Why a binding was not issued or does not count. Of a received one it is the fault of whoever
/// presented it, but for clock skew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingError {
    /// Valid for no time at all or for longer than [`Binding::MAX_LIFETIME`].
    #[error("lifetime of {} s is not within 1 s and {} s", .0.as_secs(), Binding::MAX_LIFETIME.as_secs())]
    Lifetime(Duration),
    /// Two of the three keys are one: a key has one role.
    #[error("root, transport and onion key are not three keys")]
    SharedKey,
    /// Made for another network.
    #[error("binding of another network")]
    Network,
    /// Not valid yet, beyond the allowed clock skew.
    #[error("not valid before {0}")]
    NotYetValid(Timestamp),
    /// Past its validity.
    #[error("expired at {0}")]
    Expired(Timestamp),
    /// The root did not sign it.
    #[error("root signature does not verify")]
    Root,
    /// The transport key did not sign it.
    #[error("signature of the transport key does not verify")]
    Peer,
    /// The onion key did not sign it.
    #[error("signature of the onion key does not verify")]
    Onion,
    /// The holder of the root key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

impl Binding {
    /// Longest validity, that of a certificate and for the same reason.
    pub const MAX_LIFETIME: Duration = Certificate::MAX_LIFETIME;

    /// Binds a transport key and an onion key to a root, from `not_before` on for whole seconds
    /// of `lifetime`. Of two bindings the higher generation counts.
    ///
    /// # Errors
    /// [`BindingError::Lifetime`] or [`BindingError::SharedKey`], the caller's fault;
    /// [`BindingError::Signer`].
    #[expect(clippy::too_many_arguments, reason = "every field of the terms is a decision of the caller")]
    pub fn issue(
        root: &dyn RootSigner,
        peer: &SigningKey,
        onion: &SigningKey,
        onion_network: OnionNetwork,
        generation: u32,
        not_before: Timestamp,
        lifetime: Duration,
        network: &NetworkId,
    ) -> Result<Self, BindingError> {
        let terms = Terms {
            version: V1,
            root: root.public(),
            peer: peer.public(),
            onion: OnionAddress::new(onion_network, onion.public()),
            network: *network,
            generation,
            not_before,
            not_after: not_before.saturating_add(lifetime),
        };
        terms.check()?;
        let bytes = wire::to_bytes(&terms);
        let by_root = root.sign_root(BINDING, network, &bytes)?;
        let by_peer = peer.sign(BINDING, network, &bytes);
        let by_onion = onion.sign(BINDING, network, &bytes);
        Ok(Self { terms, by_root, by_peer, by_onion })
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.terms.root.node_id()
    }

    /// Its transport key.
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.terms.peer
    }

    /// Its onion address.
    #[must_use]
    pub const fn onion(&self) -> OnionAddress {
        self.terms.onion
    }

    /// The higher counts.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.terms.generation
    }

    /// The first second at which it is no longer valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.terms.not_after
    }
}

impl Terms {
    fn check(&self) -> Result<(), BindingError> {
        let lifetime = self.not_after.saturating_since(self.not_before);
        if lifetime.is_zero() || lifetime > Binding::MAX_LIFETIME {
            return Err(BindingError::Lifetime(lifetime));
        }
        let onion = self.onion.key();
        if self.root == self.peer || self.root == onion || self.peer == onion {
            return Err(BindingError::SharedKey);
        }
        Ok(())
    }
}

impl Unverified<Binding> {
    /// Checks network, validity at `now` and all three signatures. Whether it is about the node,
    /// the connection and the address at hand is for the caller to compare.
    ///
    /// # Errors
    /// [`BindingError`] names the first check that failed.
    pub fn check_issued(
        self,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Binding>, BindingError> {
        self.check(|Binding { terms, by_root, by_peer, by_onion }| {
            terms.check()?;
            if terms.network != *network {
                return Err(BindingError::Network);
            }
            if terms.not_before > now.saturating_add(Timestamp::MAX_SKEW) {
                return Err(BindingError::NotYetValid(terms.not_before));
            }
            if terms.not_after <= now {
                return Err(BindingError::Expired(terms.not_after));
            }
            let bytes = wire::to_bytes(terms);
            terms.root.verify(BINDING, network, &bytes, by_root).map_err(|_| BindingError::Root)?;
            terms.peer.verify(BINDING, network, &bytes, by_peer).map_err(|_| BindingError::Peer)?;
            terms.onion.key().verify(BINDING, network, &bytes, by_onion).map_err(|_| BindingError::Onion)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn issue_for(lifetime: Duration) -> Result<Binding, BindingError> {
        Binding::issue(&key(1), &key(2), &key(3), OnionNetwork::Mesh, 4, NOW, lifetime, &net())
    }

    fn issue() -> Binding {
        issue_for(DAY).expect("within the rules")
    }

    fn check(binding: Binding) -> Result<(), BindingError> {
        Unverified::new(binding).check_issued(&net(), NOW).map(|_| ())
    }

    #[test]
    fn all_three_keys_have_to_sign() {
        let honest = issue();
        assert_eq!(check(honest.clone()), Ok(()));
        let other = Binding::issue(&key(4), &key(5), &key(6), OnionNetwork::Mesh, 4, NOW, DAY, &net());
        let other = other.expect("within the rules");
        for (forged, error) in [
            (Binding { by_root: other.by_root, ..honest.clone() }, BindingError::Root),
            (Binding { by_peer: other.by_peer, ..honest.clone() }, BindingError::Peer),
            (Binding { by_onion: other.by_onion, ..honest.clone() }, BindingError::Onion),
            (Binding { by_onion: honest.by_peer, ..honest.clone() }, BindingError::Onion),
        ] {
            assert_eq!(check(forged), Err(error));
        }
    }

    /// B binds A's onion address, or its transport key, to itself: it lacks the key's signature.
    #[test]
    fn a_rival_cannot_bind_what_it_does_not_hold() {
        let own = |peer, onion| Terms {
            root: key(9).public(),
            peer: key(peer).public(),
            onion: OnionAddress::new(OnionNetwork::Mesh, key(onion).public()),
            ..issue().terms
        };
        for (terms, error) in [(own(2, 8), BindingError::Peer), (own(8, 3), BindingError::Onion)] {
            let bytes = wire::to_bytes(&terms);
            let sign = |seed| key(seed).sign(BINDING, &net(), &bytes);
            let forged = Binding { terms, by_root: sign(9), by_peer: sign(8), by_onion: sign(8) };
            assert_eq!(check(forged), Err(error));
        }
    }

    #[test]
    fn it_holds_in_its_time_and_network() {
        let at = |now: u64, network: &NetworkId| {
            Unverified::new(issue()).check_issued(network, Timestamp::from_secs(now)).map(|_| ())
        };
        let (start, end) = (NOW.as_secs(), NOW.as_secs() + DAY.as_secs());
        assert_eq!(at(start - 120, &net()), Ok(()));
        assert_eq!(at(start - 121, &net()), Err(BindingError::NotYetValid(NOW)));
        assert_eq!(at(end - 1, &net()), Ok(()));
        assert_eq!(at(end, &net()), Err(BindingError::Expired(issue().not_after())));
        assert_eq!(at(start, &NetworkId::from_name("other")), Err(BindingError::Network));
        let other = NetworkId::from_name("other");
        let renamed = Binding { terms: Terms { network: other, ..issue().terms }, ..issue() };
        assert_eq!(Unverified::new(renamed).check_issued(&other, NOW).map(|_| ()), Err(BindingError::Root));
    }

    #[test]
    fn the_rules_bind_the_issuer_too() {
        assert_eq!(issue_for(DAY * 31), Err(BindingError::Lifetime(DAY * 31)));
        assert_eq!(issue_for(Duration::ZERO), Err(BindingError::Lifetime(Duration::ZERO)));
        for (peer, onion) in [(1, 3), (2, 1), (2, 2)] {
            let shared =
                Binding::issue(&key(1), &key(peer), &key(onion), OnionNetwork::Tor, 0, NOW, DAY, &net());
            assert_eq!(shared, Err(BindingError::SharedKey));
        }
    }

    #[test]
    fn no_altered_bit_is_accepted() {
        let bytes = wire::to_bytes(&issue());
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome = wire::from_bytes::<Binding>(&altered).map(check);
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {at}");
        }
    }

    #[test]
    fn the_longest_binding_fits() {
        let terms = Terms {
            generation: u32::MAX,
            not_before: Timestamp::from_secs(u64::MAX - 1),
            not_after: Timestamp::from_secs(u64::MAX),
            ..issue().terms
        };
        let longest = wire::to_bytes(&Binding { terms, ..issue() });
        assert!(wire::from_bytes::<Binding>(&longest).is_ok());
    }
}
