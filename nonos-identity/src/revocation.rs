mod equivocation;

use core::time::Duration;

use minicbor::{Decode, Encode};

pub use self::equivocation::{EquivocationError, RevocationEquivocation};
use crate::certificate::Certificate;
use crate::digest::Digest;
use crate::domains::{REVOCATION, REVOCATION_ID};
use crate::key::{NodeId, PublicKey, Signature};
use crate::network::NetworkId;
use crate::signer::{RootSigner, SignerError};
use crate::time::Timestamp;
use crate::verified::{Unverified, Verified};
use crate::wire::{self, V1, Wire};

/// What the root signs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Terms {
    #[n(0)]
    version: V1,
    #[n(1)]
    root: PublicKey,
    #[n(2)]
    seq: u64,
    #[n(3)]
    prev: Option<Digest>,
    #[n(4)]
    serials: Vec<u64>,
    #[n(5)]
    issued: Timestamp,
    #[n(6)]
    next_update: Timestamp,
}

impl Wire for Terms {
    const MAX_BYTES: usize = 128 + Revocation::MAX_SERIALS * 9;
}

/// The certificates that a root takes back before they expire: a chain of signed lists, each
/// the whole truth when it was made and naming the one before it.
///
/// A serial may leave the list once its certificate has expired, at most
/// [`Certificate::MAX_LIFETIME`] later, so the list never grows for ever. It stops whoever stole a
/// role key; whoever stole the root key can sign lists too (see [`Suicide`](crate::Suicide)).
///
/// Wire form: `[[version, root, seq, prev, [serial...], issued, next_update], signature]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    signature: Signature,
}

impl Wire for Revocation {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 68;
}

/// Why a list was not issued or does not count. Of a received list it is the fault of whoever
/// signed it, but for clock skew and an altered signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// More than [`Revocation::MAX_SERIALS`].
    #[error("{0} serials exceed the limit of {max}", max = Revocation::MAX_SERIALS)]
    TooMany(usize),
    /// Not ascending, or one is there twice.
    #[error("serials are not ascending")]
    Order,
    /// The next list is due at once, or later than [`Revocation::MAX_INTERVAL`].
    #[error("an interval of {} s is not within 1 s and {} s", .0.as_secs(), Revocation::MAX_INTERVAL.as_secs())]
    Interval(Duration),
    /// The first list names one before it, or a later one does not; or no number is left.
    #[error("sequence number and previous list do not fit")]
    Chain,
    /// Made in the future, beyond the allowed clock skew.
    #[error("issued at {0}, in the future")]
    Future(Timestamp),
    /// About another root.
    #[error("list of another root")]
    OtherRoot,
    /// The root did not sign it for this network.
    #[error("root signature does not verify")]
    Signature,
    /// The holder of the root key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// Why a certificate does not stand up to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedError {
    /// The root took it back.
    #[error("certificate {0} is revoked")]
    Revoked(u64),
    /// The list says nothing about this root.
    #[error("list of another root")]
    OtherRoot,
}

/// What came of merging a list into the one we hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Merge {
    /// Ours was as new.
    Kept,
    /// The other one was newer and took its place.
    Replaced,
    /// The root contradicted itself. Ours was kept; the root should not be trusted any more.
    Equivocated(Box<RevocationEquivocation>),
}

impl Revocation {
    /// Most serials of a list. A root has no use for more within a certificate's life, and the
    /// evidence of an equivocation, two lists, still fits a gossip item of 64 KiB.
    pub const MAX_SERIALS: usize = 2048;

    /// Longest time until the next list is due: after that a thief could have kept newer ones
    /// from us for too long.
    pub const MAX_INTERVAL: Duration = Certificate::MAX_LIFETIME;

    /// Signs the list that follows `previous`, or the first one. `serials` is the whole list, in
    /// any order; the next list is due whole seconds of `interval` after `now`.
    ///
    /// # Errors
    /// [`RevocationError`]; the caller's fault, or [`RevocationError::Signer`].
    pub fn issue(
        root: &dyn RootSigner,
        previous: Option<&Self>,
        serials: impl IntoIterator<Item = u64>,
        now: Timestamp,
        interval: Duration,
        network: &NetworkId,
    ) -> Result<Self, RevocationError> {
        if previous.is_some_and(|previous| previous.terms.root != root.public()) {
            return Err(RevocationError::OtherRoot);
        }
        let mut serials: Vec<_> = serials.into_iter().collect();
        serials.sort_unstable();
        serials.dedup();
        let seq = match previous {
            Some(previous) => previous.terms.seq.checked_add(1).ok_or(RevocationError::Chain)?,
            None => 0,
        };
        let terms = Terms {
            version: V1,
            root: root.public(),
            seq,
            prev: previous.map(Self::digest),
            serials,
            issued: now,
            next_update: now.saturating_add(interval),
        };
        terms.check()?;
        let signature = root.sign_root(REVOCATION, network, &wire::to_bytes(&terms))?;
        Ok(Self { terms, signature })
    }

    /// The node whose certificates it is about.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.terms.root.node_id()
    }

    /// Position in the chain; the higher replaces the lower.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.terms.seq
    }

    /// The revoked serials, ascending.
    #[must_use]
    pub fn serials(&self) -> &[u64] {
        &self.terms.serials
    }

    /// When it was made.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        self.terms.issued
    }

    /// When the next one is due.
    #[must_use]
    pub const fn next_update(&self) -> Timestamp {
        self.terms.next_update
    }

    /// Whether a newer list is overdue: somebody may be keeping it from us. How much then still
    /// to believe is the caller's policy.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.terms.next_update <= now
    }

    /// Its digest, by which the next list names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(REVOCATION_ID, &[&wire::to_bytes(&self.terms)])
    }

    fn verify(&self, network: &NetworkId) -> Result<(), RevocationError> {
        self.terms.check()?;
        let bytes = wire::to_bytes(&self.terms);
        let verified = self.terms.root.verify(REVOCATION, network, &bytes, &self.signature);
        verified.map_err(|_| RevocationError::Signature)
    }
}

impl Terms {
    fn check(&self) -> Result<(), RevocationError> {
        if self.serials.len() > Revocation::MAX_SERIALS {
            return Err(RevocationError::TooMany(self.serials.len()));
        }
        if !self.serials.is_sorted_by(|a, b| a < b) {
            return Err(RevocationError::Order);
        }
        let interval = self.next_update.saturating_since(self.issued);
        if interval.is_zero() || interval > Revocation::MAX_INTERVAL {
            return Err(RevocationError::Interval(interval));
        }
        if (self.seq == 0) != self.prev.is_none() {
            return Err(RevocationError::Chain);
        }
        Ok(())
    }
}

impl Unverified<Revocation> {
    /// Checks form, time and signature. A list whose successor is overdue still passes: what it
    /// revokes stays revoked.
    ///
    /// # Errors
    /// [`RevocationError`] names the first check that failed.
    pub fn check_issued(
        self,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Revocation>, RevocationError> {
        self.check(|list| {
            if list.terms.issued > now.saturating_add(Timestamp::MAX_SKEW) {
                return Err(RevocationError::Future(list.terms.issued));
            }
            list.verify(network)
        })
    }
}

impl Verified<Revocation> {
    /// Checks that the list does not revoke a certificate of its root.
    ///
    /// # Errors
    /// [`RevokedError::Revoked`] if it does, [`RevokedError::OtherRoot`] if it cannot know.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<(), RevokedError> {
        if certificate.node() != self.node() {
            return Err(RevokedError::OtherRoot);
        }
        match self.terms.serials.binary_search(&certificate.serial()) {
            Ok(_) => Err(RevokedError::Revoked(certificate.serial())),
            Err(_) => Ok(()),
        }
    }

    /// Takes in another list of the same root: the higher number replaces the lower, whatever the
    /// order in which they come. Two lists that cannot be of one chain are evidence.
    ///
    /// # Errors
    /// [`RevocationError::OtherRoot`] if it is about another root.
    pub fn merge(&mut self, other: Self) -> Result<Merge, RevocationError> {
        if other.node() != self.node() {
            return Err(RevocationError::OtherRoot);
        }
        if contradict(self, &other) || contradict(&other, self) {
            let equivocation =
                RevocationEquivocation { one: Revocation::clone(self), two: other.into_inner() };
            return Ok(Merge::Equivocated(Box::new(equivocation)));
        }
        if other.terms.seq <= self.terms.seq {
            return Ok(Merge::Kept);
        }
        *self = other;
        Ok(Merge::Replaced)
    }
}

/// Whether no chain holds both: two of one number, or one that names another predecessor.
fn contradict(one: &Revocation, two: &Revocation) -> bool {
    let digest = one.digest();
    let same = one.terms.seq == two.terms.seq && digest != two.digest();
    let next = one.terms.seq.checked_add(1) == Some(two.terms.seq);
    same || (next && two.terms.prev != Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::role::Role;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn list(previous: Option<&Revocation>, serials: &[u64]) -> Revocation {
        Revocation::issue(&key(1), previous, serials.iter().copied(), NOW, DAY, &net()).expect("in the rules")
    }

    fn check(list: &Revocation) -> Result<Verified<Revocation>, RevocationError> {
        Unverified::new(list.clone()).check_issued(&net(), NOW)
    }

    fn sign(terms: Terms) -> Revocation {
        let signature = key(1).sign(REVOCATION, &net(), &wire::to_bytes(&terms));
        Revocation { terms, signature }
    }

    fn certificate(root: u8, serial: u64) -> Certificate {
        Certificate::issue(&key(root), &key(9), Role::Author, serial, NOW, DAY, &net()).expect("in the rules")
    }

    #[test]
    fn a_revoked_serial_is_refused_and_no_other() {
        let list = check(&list(None, &[7, 3, 3])).expect("valid");
        assert_eq!((list.seq(), list.serials()), (0, &[3, 7][..]));
        for serial in [3, 7] {
            let error = Err(RevokedError::Revoked(serial));
            assert_eq!(list.check_certificate(&certificate(1, serial)), error);
        }
        for serial in [0, 4, 8, u64::MAX] {
            assert_eq!(list.check_certificate(&certificate(1, serial)), Ok(()));
        }
        assert_eq!(list.check_certificate(&certificate(2, 3)), Err(RevokedError::OtherRoot));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_though_signed() {
        let good = list(Some(&list(None, &[1])), &[1, 2]).terms;
        assert!(check(&sign(good.clone())).is_ok());
        let long = NOW.saturating_add(DAY * 31);
        for (terms, error) in [
            (Terms { serials: vec![2, 1], ..good.clone() }, RevocationError::Order),
            (Terms { serials: vec![1, 1], ..good.clone() }, RevocationError::Order),
            (Terms { prev: None, ..good.clone() }, RevocationError::Chain),
            (Terms { seq: 0, ..good.clone() }, RevocationError::Chain),
            (Terms { next_update: NOW, ..good.clone() }, RevocationError::Interval(Duration::ZERO)),
            (Terms { next_update: long, ..good.clone() }, RevocationError::Interval(DAY * 31)),
            (Terms { serials: (0..2049).collect(), ..good.clone() }, RevocationError::TooMany(2049)),
        ] {
            assert_eq!(check(&sign(terms)).map(|_| ()), Err(error));
        }
        let future = NOW.saturating_add(Timestamp::MAX_SKEW + Duration::from_secs(1));
        let future = sign(Terms { issued: future, next_update: long, ..good });
        assert_eq!(check(&future), Err(RevocationError::Future(future.issued())));
    }

    #[test]
    fn limits_hold() {
        let most: Vec<_> = (0..2048).map(|at| u64::MAX - at).collect();
        let end = Timestamp::from_secs(u64::MAX);
        let longest = Terms {
            seq: u64::MAX,
            prev: Some(Digest::of_bytes(b"")),
            issued: Timestamp::from_secs(u64::MAX - 1),
            next_update: end,
            ..list(None, &most).terms
        };
        let longest = sign(longest);
        assert_eq!(wire::from_bytes::<Revocation>(&wire::to_bytes(&longest)), Ok(longest.clone()));
        let next = |serials: Vec<u64>| {
            Revocation::issue(&key(1), Some(&longest), serials, NOW, DAY, &net()).map(|_| ())
        };
        assert_eq!(next(vec![]), Err(RevocationError::Chain), "no number is left");
        let equivocation = RevocationEquivocation { one: longest.clone(), two: longest };
        let bytes = wire::to_bytes(&equivocation);
        assert!(bytes.len() < 64 * 1024 && wire::from_bytes::<RevocationEquivocation>(&bytes).is_ok());
        let many = Revocation::issue(&key(1), None, 0..3000, NOW, DAY, &net());
        assert_eq!(many, Err(RevocationError::TooMany(3000)));
    }

    #[test]
    fn the_newest_list_wins_in_any_order() {
        let first = list(None, &[1]);
        let second = list(Some(&first), &[1, 2]);
        let third = list(Some(&second), &[2]);
        let lists = [&first, &second, &third].map(|it| check(it).expect("valid"));
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut held = lists[order[0]].clone();
            for at in &order[1..] {
                let newer = lists[*at].seq() > held.seq();
                let merged = held.merge(lists[*at].clone()).expect("one root");
                assert_eq!(merged, if newer { Merge::Replaced } else { Merge::Kept });
            }
            assert_eq!(held, lists[2]);
        }
        let mut held = lists[0].clone();
        let foreign = Revocation::issue(&key(2), None, [], NOW, DAY, &net()).expect("in the rules");
        let foreign = Unverified::new(foreign).check_issued(&net(), NOW).expect("valid");
        assert_eq!(held.merge(foreign), Err(RevocationError::OtherRoot));
    }

    #[test]
    fn a_root_that_contradicts_itself_is_shown_to_everyone() {
        let (one, two) = (list(None, &[1]), list(None, &[2]));
        let after_one = list(Some(&one), &[1]);
        for (mine, theirs) in [(&one, &two), (&after_one, &two), (&two, &after_one)] {
            let mut held = check(mine).expect("valid");
            let Ok(Merge::Equivocated(equivocation)) = held.merge(check(theirs).expect("valid")) else {
                panic!("a contradiction")
            };
            assert_eq!(&*held, mine, "ours is kept");
            let received: RevocationEquivocation =
                wire::from_bytes(&wire::to_bytes(&*equivocation)).expect("canonical");
            let proven = Unverified::new(received).check_equivocation(&net()).expect("an equivocation");
            assert_eq!(proven.node(), key(1).public().node_id());
        }
    }

    /// Evidence against an honest root must not be possible.
    #[test]
    fn nobody_frames_a_root() {
        let first = list(None, &[1]);
        let second = list(Some(&first), &[1, 2]);
        let third = list(Some(&second), &[1, 2, 3]);
        let equivocation = |one: &Revocation, two: &Revocation| {
            let equivocation = RevocationEquivocation { one: one.clone(), two: two.clone() };
            Unverified::new(equivocation).check_equivocation(&net()).map(|_| ())
        };
        for (one, two) in [(&first, &first), (&first, &second), (&third, &second), (&first, &third)] {
            assert_eq!(equivocation(one, two), Err(EquivocationError::NoContradiction));
        }
        let forged = Revocation { terms: list(None, &[2]).terms, ..first.clone() };
        assert_eq!(equivocation(&first, &forged), Err(RevocationError::Signature.into()));
        let foreign = Revocation::issue(&key(2), None, [2], NOW, DAY, &net()).expect("in the rules");
        assert_eq!(equivocation(&first, &foreign), Err(RevocationError::OtherRoot.into()));
    }

    #[test]
    fn no_altered_bit_is_accepted() {
        let bytes = wire::to_bytes(&list(Some(&list(None, &[1])), &[1, 200, 70_000]));
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome = wire::from_bytes::<Revocation>(&altered).map(|it| check(&it));
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {at}");
        }
    }

    #[test]
    fn it_holds_in_one_network_and_is_stale_when_the_next_is_due() {
        let list = list(None, &[1]);
        let other = Unverified::new(list.clone()).check_issued(&NetworkId::from_name("other"), NOW);
        assert_eq!(other, Err(RevocationError::Signature));
        assert!(!list.is_stale(NOW) && list.is_stale(NOW.saturating_add(DAY)));
        assert!(Unverified::new(list).check_issued(&net(), NOW.saturating_add(DAY * 9)).is_ok());
    }
}
