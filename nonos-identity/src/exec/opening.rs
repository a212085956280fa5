use core::fmt;

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::commitment::{PublicRun, RunIdentity};
use super::head::{EpochHead, HeadError};
use super::tree::{LOG2_SLOTS, SLOTS_PER_EPOCH, leaf, stands_at};
use crate::certificate::Certificate;
use crate::digest::Digest;
use crate::domains::OPENING;
use crate::identity::StaticSecret;
use crate::network::NetworkId;
use crate::revocation::{Revocation, RevokedError};
use crate::sealed_box::{SealError, SealedBox, SharedBox};
use crate::verified::{Unverified, Verified};
use crate::wire::{self, DecodeError, Wire};

/// Ends the opening inside a sealed box; zeros follow, to one length for all openings.
const END: u8 = 0x80;

/// Discloses one run: which node ran, and the whole chain from the receipt's key to that node's
/// root key. It proves this to everybody who gets it, and the holder can pass it on.
///
/// It shows that the named node signed for the execution key before anybody saw the receipt, so
/// nobody is framed. It does not show that onion address and transport key are the node's: see
/// [`RunIdentity::is_bound_by`].
///
/// Wire form: `[run, [sibling...], head, certificate]`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Opening {
    /// What the receipt's commitment hides.
    #[n(0)]
    pub run: RunIdentity,
    /// Siblings of the slot in the tree of the epoch, from the leaf up.
    #[n(1)]
    pub path: Vec<Digest>,
    /// The signed head of the epoch.
    #[n(2)]
    pub head: EpochHead,
    /// The root's certificate for the signer of the head.
    #[n(3)]
    pub certificate: Certificate,
}

impl Wire for Opening {
    const MAX_BYTES: usize =
        RunIdentity::MAX_BYTES + LOG2_SLOTS as usize * 34 + EpochHead::MAX_BYTES + Certificate::MAX_BYTES + 8;
}

/// Why an opening does not disclose the run. Always the fault of whoever made it, but for a
/// revocation that came after the run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// The receipt committed to something else, or another key signed it.
    #[error("opening does not fit the commitment")]
    Commitment,
    /// Receipt, identity and head are not of one epoch.
    #[error("opening of another epoch")]
    Epoch,
    /// Head or certificate are another node's than the one that is named.
    #[error("opening names another node than signed")]
    Node,
    /// No slot of an epoch.
    #[error("slot {0} is beyond the {SLOTS_PER_EPOCH} of an epoch")]
    Slot(u32),
    /// Not one sibling per level.
    #[error("path has {0} siblings where {LOG2_SLOTS} are expected")]
    PathLength(usize),
    /// The head, or its signer's certificate, does not hold.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The tree that was signed has another leaf at the slot.
    #[error("execution key is not in the signed tree")]
    Path,
    /// The certificate of the epoch signer does not stand up to the revocation list.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
}

/// Why a sealed opening yields none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// Not sealed to this key for this run, or altered.
    #[error(transparent)]
    Box(#[from] SealError),
    /// What was sealed is no opening; the fault of whoever sealed it.
    #[error(transparent)]
    Content(#[from] DecodeError),
}

impl Opening {
    /// Checks the whole chain, offline: commitment, slot in the tree, head, epoch signer's
    /// certificate in the epoch of the run; and the certificate against the revocation list of
    /// its root, if one is at hand. A list of another root is refused.
    ///
    /// # Errors
    /// [`OpeningError`] names the first check that failed.
    pub fn check(
        &self,
        shown: &PublicRun,
        network: &NetworkId,
        revocation: Option<&Verified<Revocation>>,
    ) -> Result<(), OpeningError> {
        let Self { run, path, head, certificate } = self;
        if run.commit(&shown.exec_key) != shown.commitment {
            return Err(OpeningError::Commitment);
        }
        if run.epoch != shown.epoch || head.epoch() != shown.epoch {
            return Err(OpeningError::Epoch);
        }
        if head.node() != run.node || certificate.node() != run.node {
            return Err(OpeningError::Node);
        }
        if run.slot >= SLOTS_PER_EPOCH {
            return Err(OpeningError::Slot(run.slot));
        }
        if path.len() != usize::from(LOG2_SLOTS) {
            return Err(OpeningError::PathLength(path.len()));
        }
        head.verify(certificate, network)?;
        let leaf = leaf(run.epoch, run.slot, &shown.exec_key, &run.blind);
        if !stands_at(&head.root(), run.slot, leaf, path) {
            return Err(OpeningError::Path);
        }
        if let Some(revocation) = revocation {
            revocation.check_certificate(certificate)?;
        }
        Ok(())
    }

    /// Encrypts it to an authorised verifier's X25519 key, for one run in one network. All sealed
    /// openings have one length. `ephemeral` is as in [`SealedBox::seal`].
    ///
    /// # Errors
    /// [`SealError::Recipient`] if the verifier's key has a small order.
    pub fn seal(
        &self,
        to: &[u8; 32],
        ephemeral: &StaticSecret,
        shown: &PublicRun,
        network: &NetworkId,
    ) -> Result<SealedBox, SealError> {
        SealedBox::seal(to, ephemeral, OPENING, &bind(shown, network), &self.padded())
    }

    /// As [`Self::seal`], to several verifiers.
    ///
    /// # Errors
    /// [`SealError`] if their number or one of their keys is not accepted.
    pub fn seal_to_all(
        &self,
        to: &[[u8; 32]],
        ephemeral: &StaticSecret,
        shown: &PublicRun,
        network: &NetworkId,
    ) -> Result<SharedBox, SealError> {
        SharedBox::seal(to, ephemeral, OPENING, &bind(shown, network), &self.padded())
    }

    /// Decrypts what [`Self::seal`] made, with the verifier's key.
    ///
    /// # Errors
    /// [`UnsealError`] if it is for another key or run, or is no opening.
    pub fn unseal(
        sealed: &SealedBox,
        secret: &StaticSecret,
        shown: &PublicRun,
        network: &NetworkId,
    ) -> Result<Unverified<Self>, UnsealError> {
        Ok(unpadded(&sealed.open(secret, OPENING, &bind(shown, network))?)?)
    }

    /// Decrypts what [`Self::seal_to_all`] made, with one verifier's key.
    ///
    /// # Errors
    /// [`UnsealError`] if it is for other keys or another run, or is no opening.
    pub fn unseal_shared(
        sealed: &SharedBox,
        secret: &StaticSecret,
        shown: &PublicRun,
        network: &NetworkId,
    ) -> Result<Unverified<Self>, UnsealError> {
        Ok(unpadded(&sealed.open(secret, OPENING, &bind(shown, network))?)?)
    }

    fn padded(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(Self::MAX_BYTES + 1));
        plain.extend(wire::to_bytes(self));
        plain.push(END);
        plain.resize(Self::MAX_BYTES + 1, 0);
        plain
    }
}

fn bind(shown: &PublicRun, network: &NetworkId) -> Vec<u8> {
    [&network.as_bytes()[..], &wire::to_bytes(shown)].concat()
}

fn unpadded(plain: &[u8]) -> Result<Unverified<Opening>, DecodeError> {
    let end = plain.iter().rposition(|byte| *byte != 0);
    let (content, padding) = plain.split_at(end.unwrap_or_default());
    if plain.len() != Opening::MAX_BYTES + 1 || padding.first() != Some(&END) {
        return Err(DecodeError::Malformed);
    }
    wire::from_bytes(content).map(Unverified::new)
}

impl Unverified<Opening> {
    /// As [`Opening::check`].
    ///
    /// # Errors
    /// [`OpeningError`] names the first check that failed.
    pub fn check_run(
        self,
        shown: &PublicRun,
        network: &NetworkId,
        revocation: Option<&Verified<Revocation>>,
    ) -> Result<Verified<Opening>, OpeningError> {
        self.check(|opening| opening.check(shown, network, revocation))
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("run", &self.run).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{OnionAddress, OnionNetwork};
    use crate::identity::Identity;
    use crate::key::SigningKey;
    use crate::testing::honest_run;
    use crate::time::Epoch;

    const EPOCH: Epoch = Epoch::from_number(2_963_000);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn run() -> (PublicRun, Opening) {
        honest_run(&Identity::from_seed(&[1; 64]), EPOCH, &net())
    }

    fn key(seed: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[seed; 32])
    }

    #[test]
    fn an_honest_opening_discloses_the_run() {
        let (shown, opening) = run();
        let bytes = wire::to_bytes(&opening);
        let received: Opening = wire::from_bytes(&bytes).expect("canonical");
        assert_eq!(received.check(&shown, &net(), None), Ok(()));
        let other = NetworkId::from_name("other");
        assert!(matches!(received.check(&shown, &other, None), Err(OpeningError::Head(_))));
    }

    #[test]
    fn no_altered_bit_of_an_opening_discloses_anything() {
        let (shown, opening) = run();
        let bytes = wire::to_bytes(&opening);
        for at in (0..bytes.len() * 8).step_by(3) {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome = wire::from_bytes::<Opening>(&altered).map(|it| it.check(&shown, &net(), None));
            assert!(!matches!(outcome, Ok(Ok(()))), "bit {at}");
        }
    }

    #[test]
    fn a_sealed_opening_is_for_one_verifier_and_one_run() {
        let (shown, opening) = run();
        let sealed = opening.seal(&key(8).public(), &key(9), &shown, &net()).expect("honest key");
        let opened = Opening::unseal(&sealed, &key(8), &shown, &net()).expect("for this key");
        assert_eq!(opened.check_run(&shown, &net(), None).expect("honest").into_inner(), opening);
        let refused = |secret, shown: &PublicRun, network: &NetworkId| {
            Opening::unseal(&sealed, &key(secret), shown, network).err()
        };
        let closed = Some(UnsealError::Box(SealError::Open));
        assert_eq!(refused(7, &shown, &net()), closed);
        assert_eq!(refused(8, &PublicRun { epoch: EPOCH.next(), ..shown }, &net()), closed);
        assert_eq!(refused(8, &shown, &NetworkId::from_name("other")), closed);

        let to = [key(7).public(), key(8).public()];
        let shared = opening.seal_to_all(&to, &key(9), &shown, &net()).expect("honest keys");
        for seed in [7, 8] {
            let opened = Opening::unseal_shared(&shared, &key(seed), &shown, &net()).expect("for this key");
            assert!(opened.check_run(&shown, &net(), None).is_ok());
        }
        assert!(Opening::unseal_shared(&shared, &key(6), &shown, &net()).is_err());
    }

    /// Whoever relays a sealed opening learns no slot and no serial from its length.
    #[test]
    fn sealed_openings_have_one_length() {
        let lengths = |seed: u8, epoch| {
            let (shown, opening) = honest_run(&Identity::from_seed(&[seed; 64]), epoch, &net());
            let plain = wire::to_bytes(&opening).len();
            let sealed = opening.seal(&key(8).public(), &key(9), &shown, &net()).expect("honest key");
            (plain, wire::to_bytes(&sealed).len())
        };
        let (short, sealed) = lengths(1, Epoch::from_number(1));
        let (long, as_long) = lengths(2, EPOCH);
        assert!(short != long && sealed == as_long, "{short} {long} {sealed} {as_long}");
    }

    #[test]
    fn padding_has_one_form() {
        let (shown, opening) = run();
        let good = opening.padded();
        assert!(unpadded(&good).is_ok());
        let short = &good[..good.len() - 1];
        let mut dirty = good.to_vec();
        *dirty.last_mut().unwrap() = 1;
        let mut bare = wire::to_bytes(&opening);
        bare.resize(good.len(), 0);
        for plain in [short, &dirty, &bare, &[], &vec![0; good.len()], &vec![END; good.len()]] {
            let sealed =
                SealedBox::seal(&key(8).public(), &key(9), OPENING, &bind(&shown, &net()), plain).unwrap();
            let opened = Opening::unseal(&sealed, &key(8), &shown, &net());
            assert!(matches!(opened, Err(UnsealError::Content(_))), "{opened:?}");
        }
    }

    #[test]
    fn the_longest_opening_fits() {
        let (_, opening) = run();
        let run = RunIdentity { epoch: Epoch::from_number(u64::MAX), slot: u32::MAX, ..opening.run.clone() };
        let longest = Opening { run, ..opening };
        assert!(wire::from_bytes::<Opening>(&wire::to_bytes(&longest)).is_ok());
    }

    #[test]
    fn debug_shows_no_blind() {
        let (_, opening) = run();
        let onion = OnionAddress::new(OnionNetwork::Mesh, SigningKey::from_seed(&[3; 32]).public());
        let other = Opening { run: RunIdentity { onion, ..opening.run.clone() }, ..opening };
        assert!(!format!("{other:?}").contains("blind"));
    }
}
