use core::time::Duration;

use minicbor::{Decode, Encode};

use super::tree::LOG2_SLOTS;
use crate::certificate::{Certificate, CertificateError};
use crate::digest::Digest;
use crate::domains::{EXEC_HEAD, EXEC_HEAD_ID};
use crate::key::{NodeId, Signature, SigningKey};
use crate::network::NetworkId;
use crate::role::Role;
use crate::time::{Epoch, Timestamp};
use crate::verified::{Unverified, Verified};
use crate::wire::{self, V1, Wire};

/// What the epoch signer signs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Terms {
    #[n(0)]
    version: V1,
    #[n(1)]
    node: NodeId,
    #[n(2)]
    epoch: Epoch,
    #[n(3)]
    prev: Option<Digest>,
    #[n(4)]
    root: Digest,
    #[n(5)]
    log2n: u8,
    #[n(6)]
    not_before: Timestamp,
    #[n(7)]
    not_after: Timestamp,
    #[n(8)]
    certificate: Digest,
}

impl Wire for Terms {
    const MAX_BYTES: usize = 192;
}

/// A node's promise of the execution keys it may use in an epoch: the root of their hidden tree.
///
/// Heads are chained: each names the one before it, so that heads cannot be slipped in later
/// between two that somebody has seen. An epoch in which a node runs nothing needs none.
///
/// Wire form: `[[version, node, epoch, prev, root, log2n, not_before, not_after, certificate],
/// signature]`; `prev` and `certificate` are digests.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EpochHead {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    signature: Signature,
}

impl Wire for EpochHead {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 67;
}

/// Why a head was not signed or does not count. The fault of whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Its certificate does not hold for the epoch.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It was signed under another certificate than the one presented.
    #[error("head under another certificate")]
    OtherCertificate,
    /// It names another node than its certificate does.
    #[error("head names another node than its certificate")]
    Node,
    /// A tree of another depth than [`LOG2_SLOTS`].
    #[error("tree of depth {0} where {LOG2_SLOTS} is expected")]
    Depth(u8),
    /// Not valid throughout its epoch, or for longer than [`EpochHead::MAX_LIFETIME`].
    #[error("validity does not fit the epoch")]
    Validity,
    /// The epoch signer did not sign it for this network.
    #[error("signature of the epoch signer does not verify")]
    Signature,
}

impl EpochHead {
    /// Longest validity, a day: as long as receipts of its epoch are of interest.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// Signs the root of an epoch's tree, valid for that epoch.
    ///
    /// The same epoch signed twice with one root is harmless; with two roots it is a
    /// [`HeadEquivocation`]. The root follows from the seed, so an honest node has but one.
    ///
    /// # Errors
    /// [`HeadError`] if the certificate is not the signer's or does not hold in the epoch; the
    /// caller's fault.
    pub fn sign(
        signer: &SigningKey,
        certificate: &Certificate,
        epoch: Epoch,
        root: Digest,
        prev: Option<&Self>,
        network: &NetworkId,
    ) -> Result<Self, HeadError> {
        if certificate.subject() != signer.public() {
            return Err(HeadError::OtherCertificate);
        }
        check_certificate(certificate, epoch, network)?;
        let terms = Terms {
            version: V1,
            node: certificate.node(),
            epoch,
            prev: prev.map(Self::digest),
            root,
            log2n: LOG2_SLOTS,
            not_before: epoch.start(),
            not_after: epoch.end(),
            certificate: certificate.digest(),
        };
        let signature = signer.sign(EXEC_HEAD, network, &wire::to_bytes(&terms));
        Ok(Self { terms, signature })
    }

    /// The node whose keys these are.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.terms.node
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.terms.epoch
    }

    /// Root of the tree of hidden keys.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.terms.root
    }

    /// Digest of the head before it.
    #[must_use]
    pub const fn prev(&self) -> Option<Digest> {
        self.terms.prev
    }

    /// Its digest, by which the next head names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(EXEC_HEAD_ID, &[&wire::to_bytes(&self.terms)])
    }

    pub(super) fn verify(&self, certificate: &Certificate, network: &NetworkId) -> Result<(), HeadError> {
        let terms = &self.terms;
        if terms.log2n != LOG2_SLOTS {
            return Err(HeadError::Depth(terms.log2n));
        }
        let lifetime = terms.not_after.saturating_since(terms.not_before);
        if terms.not_before > terms.epoch.start()
            || terms.not_after < terms.epoch.end()
            || lifetime > Self::MAX_LIFETIME
        {
            return Err(HeadError::Validity);
        }
        if terms.node != certificate.node() {
            return Err(HeadError::Node);
        }
        if terms.certificate != certificate.digest() {
            return Err(HeadError::OtherCertificate);
        }
        let signer = check_certificate(certificate, terms.epoch, network)?.subject();
        signer
            .verify(EXEC_HEAD, network, &wire::to_bytes(terms), &self.signature)
            .map_err(|_| HeadError::Signature)
    }
}

/// Checks that the certificate of an epoch signer is valid at some second of the epoch. Whoever
/// comes to check years later asks about that time, not about theirs.
fn check_certificate(
    certificate: &Certificate,
    epoch: Epoch,
    network: &NetworkId,
) -> Result<Verified<Certificate>, CertificateError> {
    if certificate.not_before() >= epoch.end() {
        return Err(CertificateError::NotYetValid(certificate.not_before()));
    }
    let at = epoch.start().max(certificate.not_before());
    Unverified::new(certificate.clone()).check_issued(Role::EpochSigner, network, at)
}

impl Unverified<EpochHead> {
    /// Checks the head and the certificate of its signer, for the epoch it is about.
    ///
    /// # Errors
    /// [`HeadError`] names the first check that failed.
    pub fn check_signed(
        self,
        certificate: &Certificate,
        network: &NetworkId,
    ) -> Result<Verified<EpochHead>, HeadError> {
        self.check(|head| head.verify(certificate, network))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Certified {
    #[n(0)]
    head: EpochHead,
    #[n(1)]
    certificate: Certificate,
}

/// Two trees that a node signed for one epoch: it could show each to another half of the world.
/// It proves itself, to whoever comes.
///
/// Wire form: `[[head, certificate], [head, certificate]]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HeadEquivocation {
    #[n(0)]
    one: Certified,
    #[n(1)]
    two: Certified,
}

impl Wire for HeadEquivocation {
    const MAX_BYTES: usize = 2 * (EpochHead::MAX_BYTES + Certificate::MAX_BYTES + 1) + 1;
}

/// What is presented as an equivocation and is none; the fault of whoever presented it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadEquivocationError {
    /// One of the heads does not count.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Of two nodes or two epochs, or twice the same tree.
    #[error("the two heads do not contradict each other")]
    NoContradiction,
}

impl HeadEquivocation {
    /// Puts two heads side by side, each with its signer's certificate.
    #[must_use]
    pub const fn new(one: (EpochHead, Certificate), two: (EpochHead, Certificate)) -> Self {
        Self {
            one: Certified { head: one.0, certificate: one.1 },
            two: Certified { head: two.0, certificate: two.1 },
        }
    }

    /// The node that signed both.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.one.head.node()
    }

    /// The epoch it signed them for.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.one.head.epoch()
    }
}

impl Unverified<HeadEquivocation> {
    /// Checks both heads and the contradiction.
    ///
    /// # Errors
    /// [`HeadEquivocationError`] if it proves nothing.
    pub fn check_equivocation(
        self,
        network: &NetworkId,
    ) -> Result<Verified<HeadEquivocation>, HeadEquivocationError> {
        self.check(|HeadEquivocation { one, two }| {
            let (a, b) = (&one.head.terms, &two.head.terms);
            if a.node != b.node || a.epoch != b.epoch || a.root == b.root {
                return Err(HeadEquivocationError::NoContradiction);
            }
            one.head.verify(&one.certificate, network)?;
            Ok(two.head.verify(&two.certificate, network)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    const EPOCH: Epoch = Epoch::from_number(1_666);
    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(root: u8, signer: u8, role: Role) -> Certificate {
        Certificate::issue(&key(root), &key(signer), role, 0, EPOCH.start(), DAY, &net())
            .expect("in the rules")
    }

    fn mine() -> Certificate {
        certificate(1, 2, Role::EpochSigner)
    }

    fn head(root: &[u8]) -> EpochHead {
        EpochHead::sign(&key(2), &mine(), EPOCH, Digest::of_bytes(root), None, &net()).expect("in the rules")
    }

    fn sign(terms: Terms) -> EpochHead {
        let signature = key(2).sign(EXEC_HEAD, &net(), &wire::to_bytes(&terms));
        EpochHead { terms, signature }
    }

    fn check(head: EpochHead) -> Result<(), HeadError> {
        Unverified::new(head).check_signed(&mine(), &net()).map(|_| ())
    }

    #[test]
    fn a_head_holds_under_its_certificate_in_its_network() {
        assert_eq!(check(head(b"tree")), Ok(()));
        let check = |certificate, network: &NetworkId| {
            Unverified::new(head(b"tree")).check_signed(&certificate, network).map(|_| ())
        };
        assert_eq!(check(certificate(3, 2, Role::EpochSigner), &net()), Err(HeadError::Node));
        assert_eq!(check(certificate(1, 3, Role::EpochSigner), &net()), Err(HeadError::OtherCertificate));
        let other = check(mine(), &NetworkId::from_name("other"));
        assert_eq!(other, Err(CertificateError::RootSignature.into()));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_though_signed() {
        let good = head(b"tree").terms;
        let early = Timestamp::from_secs(EPOCH.start().as_secs() + 1);
        let late = Timestamp::from_secs(EPOCH.end().as_secs() - 1);
        let long = EPOCH.start().saturating_add(EpochHead::MAX_LIFETIME + Duration::from_secs(1));
        for (terms, error) in [
            (Terms { log2n: 9, ..good.clone() }, HeadError::Depth(9)),
            (Terms { log2n: 11, ..good.clone() }, HeadError::Depth(11)),
            (Terms { not_before: early, ..good.clone() }, HeadError::Validity),
            (Terms { not_after: late, ..good.clone() }, HeadError::Validity),
            (Terms { not_after: long, ..good.clone() }, HeadError::Validity),
            (Terms { node: key(9).public().node_id(), ..good.clone() }, HeadError::Node),
            (Terms { certificate: Digest::of_bytes(b""), ..good.clone() }, HeadError::OtherCertificate),
        ] {
            assert_eq!(check(sign(terms)), Err(error));
        }
        let unsigned = EpochHead { signature: head(b"other").signature, ..head(b"tree") };
        assert_eq!(check(unsigned), Err(HeadError::Signature));
    }

    #[test]
    fn the_signer_needs_a_certificate_of_its_role_for_the_epoch() {
        let sign = |certificate: &Certificate, epoch| {
            EpochHead::sign(&key(2), certificate, epoch, Digest::of_bytes(b""), None, &net()).map(|_| ())
        };
        let role = CertificateError::Role { expected: Role::EpochSigner, found: Role::Author };
        assert_eq!(sign(&certificate(1, 2, Role::Author), EPOCH), Err(role.into()));
        assert_eq!(sign(&certificate(1, 3, Role::EpochSigner), EPOCH), Err(HeadError::OtherCertificate));
        let number = EPOCH.number();
        let (start, end) = (mine().not_before(), mine().not_after());
        let before = sign(&mine(), Epoch::from_number(number - 1));
        assert_eq!(before, Err(CertificateError::NotYetValid(start).into()));
        assert_eq!(sign(&mine(), Epoch::from_number(number + 143)), Ok(()));
        let after = sign(&mine(), Epoch::from_number(number + 144));
        assert_eq!(after, Err(CertificateError::Expired(end).into()));
        // Issued in the middle of the epoch, as at a first boot.
        let middle = EPOCH.start().saturating_add(Duration::from_secs(400));
        let late = Certificate::issue(&key(1), &key(2), Role::EpochSigner, 0, middle, DAY, &net());
        assert_eq!(sign(&late.expect("in the rules"), EPOCH), Ok(()));
    }

    /// A dishonest signer does not ask [`EpochHead::sign`].
    #[test]
    fn a_forged_head_needs_the_same_certificate() {
        let check = |certificate: Certificate, epoch| {
            let terms = Terms {
                epoch,
                not_before: epoch.start(),
                not_after: epoch.end(),
                certificate: certificate.digest(),
                ..head(b"tree").terms
            };
            Unverified::new(sign(terms)).check_signed(&certificate, &net()).map(|_| ())
        };
        assert_eq!(check(mine(), EPOCH), Ok(()));
        let role = CertificateError::Role { expected: Role::EpochSigner, found: Role::Author };
        assert_eq!(check(certificate(1, 2, Role::Author), EPOCH), Err(role.into()));
        let expired = CertificateError::Expired(mine().not_after());
        assert_eq!(check(mine(), Epoch::from_number(EPOCH.number() + 144)), Err(expired.into()));
        let early = CertificateError::NotYetValid(mine().not_before());
        assert_eq!(check(mine(), Epoch::from_number(EPOCH.number() - 1)), Err(early.into()));
    }

    #[test]
    fn heads_form_a_chain() {
        let first = head(b"tree");
        let second =
            EpochHead::sign(&key(2), &mine(), EPOCH.next(), Digest::of_bytes(b"next"), Some(&first), &net());
        assert_eq!((first.prev(), second.expect("in the rules").prev()), (None, Some(first.digest())));
    }

    #[test]
    fn two_trees_for_one_epoch_prove_themselves() {
        let equivocation = HeadEquivocation::new((head(b"one"), mine()), (head(b"two"), mine()));
        let received: HeadEquivocation = wire::from_bytes(&wire::to_bytes(&equivocation)).expect("canonical");
        let proven = Unverified::new(received).check_equivocation(&net()).expect("an equivocation");
        assert_eq!((proven.node(), proven.epoch()), (mine().node(), EPOCH));
        // Also under two certificates.
        let renewed = Certificate::issue(&key(1), &key(3), Role::EpochSigner, 9, EPOCH.start(), DAY, &net())
            .expect("in the rules");
        let other = EpochHead::sign(&key(3), &renewed, EPOCH, Digest::of_bytes(b"3"), None, &net());
        let equivocation =
            HeadEquivocation::new((head(b"one"), mine()), (other.expect("in the rules"), renewed));
        assert!(Unverified::new(equivocation).check_equivocation(&net()).is_ok());
    }

    /// Evidence against an honest node must not be possible.
    #[test]
    fn nobody_frames_a_node_as_equivocating() {
        let check = |one, two| {
            Unverified::new(HeadEquivocation::new((one, mine()), (two, mine())))
                .check_equivocation(&net())
                .map(|_| ())
        };
        let no = Err(HeadEquivocationError::NoContradiction);
        assert_eq!(check(head(b"one"), head(b"one")), no);
        let again = sign(Terms { prev: Some(Digest::of_bytes(b"")), ..head(b"one").terms });
        assert_eq!(check(head(b"one"), again), no, "signed again after a restart");
        let next = sign(Terms { epoch: EPOCH.next(), ..head(b"two").terms });
        assert_eq!(check(head(b"one"), next), no);
        let forged = EpochHead { signature: head(b"one").signature, ..head(b"two") };
        assert_eq!(check(head(b"one"), forged), Err(HeadError::Signature.into()));
    }

    #[test]
    fn no_altered_bit_is_accepted() {
        let bytes = wire::to_bytes(&head(b"tree"));
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome = wire::from_bytes::<EpochHead>(&altered).map(check);
            assert!(!matches!(outcome, Ok(Ok(()))), "bit {at}");
        }
    }

    #[test]
    fn the_longest_head_fits() {
        let end = Timestamp::from_secs(u64::MAX);
        let terms = Terms {
            epoch: Epoch::from_number(u64::MAX),
            prev: Some(Digest::of_bytes(b"")),
            log2n: u8::MAX,
            not_before: end,
            not_after: end,
            ..head(b"").terms
        };
        assert!(wire::from_bytes::<EpochHead>(&wire::to_bytes(&sign(terms))).is_ok());
    }
}
