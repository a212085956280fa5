//! The execution slots of this node: the tree of the present epoch, the record of used slots and
//! the chain of signed heads.

use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use nonos_identity::exec::{HeadError, Slot, TakeError};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{
    Certificate, Epoch, EpochHead, ExecutionSlots, FileSlotLog, Identity, SlotError, SlotLog as _,
};

use crate::files;
use crate::records::Signer;

/// File with the used slots.
const LOG: &str = "slots.log";
/// File with the last signed head.
const HEAD: &str = "head.bin";

/// A circuit counts slots in as many bits as the tree has levels.
const _: () = assert!(nonos_zk::SLOTS_PER_EPOCH == nonos_identity::exec::SLOTS_PER_EPOCH);

/// Why a run has no execution key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotsError {
    /// None is left, or the log does not take it.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The log of used slots cannot be used.
    #[error(transparent)]
    Log(#[from] SlotError),
    /// The head cannot be signed.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The file with the last head cannot be used.
    #[error("cannot access {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file does not hold a head.
    #[error("{path} does not hold a head: {source}")]
    Damaged {
        path: PathBuf,
        #[source]
        source: DecodeError,
    },
}

/// A head with the certificate it was signed under.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct SignedHead {
    #[n(0)]
    pub(crate) head: EpochHead,
    #[n(1)]
    pub(crate) certificate: Certificate,
}

impl Wire for SignedHead {
    const MAX_BYTES: usize = EpochHead::MAX_BYTES + Certificate::MAX_BYTES + 1;
}

#[derive(Debug)]
pub(crate) struct Slots {
    path: PathBuf,
    log: FileSlotLog,
    /// Built when the first run of an epoch needs it.
    open: Option<ExecutionSlots>,
    signed: Option<SignedHead>,
}

impl Slots {
    /// Opens log and last head of a data directory. Where there is a head and no log, the log was
    /// lost: nothing of this epoch is used again.
    pub(crate) fn open(data_dir: &Path, now: Epoch) -> Result<Self, SlotsError> {
        let path = data_dir.join(HEAD);
        let signed = match std::fs::read(&path) {
            Ok(bytes) => Some(
                wire::from_bytes(&bytes)
                    .map_err(|source| SlotsError::Damaged { path: path.clone(), source })?,
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(SlotsError::Io { path, source }),
        };
        let log = data_dir.join(LOG);
        let log = match FileSlotLog::open(&log) {
            Err(SlotError::Storage(nonos_identity::keystore::StorageError::Missing)) => {
                FileSlotLog::create(log, if signed.is_some() { now.next() } else { now })
            }
            opened => opened,
        }?;
        Ok(Self { path, log, open: None, signed })
    }

    /// Takes the next slot of an epoch, durably: a slot that was taken is never used again, also
    /// if the node dies before it signs. The head is on disk before the first slot of it is used.
    pub(crate) fn take(
        &mut self,
        identity: &Identity,
        signer: &Signer,
        epoch: Epoch,
    ) -> Result<(Slot, SignedHead), SlotsError> {
        if self.open.as_ref().is_none_or(|slots| slots.epoch() != epoch) {
            self.log.forget_before(epoch)?;
            self.open = Some(ExecutionSlots::new(identity.roles(), identity.node_id(), epoch));
        }
        let Some(slots) = &mut self.open else { return Err(TakeError::Exhausted.into()) };
        let signed = match &self.signed {
            // After a restart within the epoch: the head is signed, and stays as it is.
            Some(signed) if signed.head.epoch() == epoch && signed.head.root() == slots.root() => {
                signed.clone()
            }
            prev => {
                let prev = prev.as_ref().map(|signed| &signed.head);
                let head = slots.sign_head(&signer.key, &signer.certificate, prev, &signer.network)?;
                let signed = SignedHead { head, certificate: signer.certificate.clone() };
                files::replace(&self.path, &wire::to_bytes(&signed))
                    .map_err(|source| SlotsError::Io { path: self.path.clone(), source })?;
                self.signed = Some(signed.clone());
                signed
            }
        };
        Ok((slots.take(&self.log)?, signed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonos_identity::{NetworkId, Role};

    fn signer(identity: &Identity, epoch: Epoch, serial: u64) -> Signer {
        let (key, network) = (identity.signing_key(Role::EpochSigner, 0), NetworkId::from_name("test"));
        let (start, lifetime) = (epoch.start(), Certificate::MAX_LIFETIME);
        let root = identity.root_key();
        let certificate =
            Certificate::issue(&root, &key, Role::EpochSigner, serial, start, lifetime, &network)
                .expect("in the rules");
        Signer { key, certificate, network }
    }

    #[test]
    fn slots_and_heads_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::from_seed(&[1; 64]);
        let epoch = Epoch::from_number(3_000_000);
        let first = signer(&identity, epoch, 1);
        let mut slots = Slots::open(dir.path(), epoch).expect("opened");
        let (one, head) = slots.take(&identity, &first, epoch).expect("free");
        let (two, same) = slots.take(&identity, &first, epoch).expect("free");
        assert_eq!(head.head, same.head);
        drop(slots);

        // The node starts again, with a new certificate for the same key.
        let mut slots = Slots::open(dir.path(), epoch).expect("opened");
        let (three, again) = slots.take(&identity, &signer(&identity, epoch, 2), epoch).expect("free");
        assert_eq!(again.head, head.head);
        let numbers = [one.number(), two.number(), three.number()];
        assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2]);
        let (_, next) = slots.take(&identity, &first, epoch.next()).expect("free");
        assert_eq!(next.head.prev(), Some(head.head.digest()));
        let back = slots.take(&identity, &first, epoch);
        assert!(back.is_err(), "the clock went back, and nobody knows what was used: {back:?}");
    }

    #[test]
    fn a_lost_log_uses_nothing_of_its_epoch_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::from_seed(&[1; 64]);
        let epoch = Epoch::from_number(3_000_000);
        let signer = signer(&identity, epoch, 1);
        let mut slots = Slots::open(dir.path(), epoch).expect("opened");
        slots.take(&identity, &signer, epoch).expect("free");
        drop(slots);
        std::fs::remove_file(dir.path().join(LOG)).expect("removed");
        let mut slots = Slots::open(dir.path(), epoch).expect("opened");
        assert!(slots.take(&identity, &signer, epoch).is_err());
        assert!(slots.take(&identity, &signer, epoch.next()).is_ok());
    }
}
