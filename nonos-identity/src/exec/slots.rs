use core::fmt;

use zeroize::Zeroizing;

use super::commitment::RunIdentity;
use super::head::{EpochHead, HeadError};
use super::opening::Opening;
use super::tree::{SLOTS_PER_EPOCH, SlotTree, leaf};
use crate::address::OnionAddress;
use crate::certificate::Certificate;
use crate::digest::Digest;
use crate::domains::{EXEC_ORDER, EXECUTION_BLIND};
use crate::hd::HdNode;
use crate::identity::RoleKeys;
use crate::key::{NodeId, PublicKey, SigningKey};
use crate::network::NetworkId;
use crate::slot_log::{SlotError, SlotLog};
use crate::time::Epoch;

/// The execution keys of one epoch, handed out one by one.
///
/// It holds what this epoch needs and nothing of any other: once dropped, its runs can only be
/// linked by whoever has the seed or an opening. The slots come in an order that only the seed
/// tells, so a slot's number says nothing about how many runs came before.
pub struct ExecutionSlots {
    node: NodeId,
    epoch: Epoch,
    secrets: Box<HdNode>,
    tree: SlotTree,
    /// Slots not handed out here, the next one last.
    order: Vec<u32>,
}

/// Why no slot was handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// All slots of the epoch are used; the next epoch has new ones.
    #[error("every execution slot of this epoch is used; the next epoch has new ones")]
    Exhausted,
    /// The log did not record it, so it must not be used.
    #[error(transparent)]
    Log(#[from] SlotError),
}

impl ExecutionSlots {
    /// Derives the tree of an epoch: 2^10 keys, tens of milliseconds. The same seed and epoch
    /// give the same tree, always.
    #[must_use]
    pub fn new(keys: &RoleKeys, node: NodeId, epoch: Epoch) -> Self {
        let secrets = Box::new(keys.execution_epoch(epoch));
        let leaves: Vec<_> = (0..SLOTS_PER_EPOCH)
            .map(|slot| {
                let secret = secrets.descend(slot.into());
                let key = SigningKey::from_seed(secret.key()).public();
                leaf(epoch, slot, &key, &secret.secret(EXECUTION_BLIND, &[]))
            })
            .collect();
        // Sorting by a keyed hash gives every order the same chance.
        let key = secrets.secret(EXEC_ORDER, &[]);
        let mut order: Vec<_> = (0..SLOTS_PER_EPOCH).collect();
        order.sort_by_cached_key(|slot| Digest::of(EXEC_ORDER, &[&*key, &slot.to_le_bytes()]));
        Self { node, epoch, secrets, tree: SlotTree::new(&leaves), order }
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// Signs the head of the epoch; `prev` is the last head that was signed.
    ///
    /// # Errors
    /// As [`EpochHead::sign`], and [`HeadError::Node`] for a certificate of another node.
    pub fn sign_head(
        &self,
        signer: &SigningKey,
        certificate: &Certificate,
        prev: Option<&EpochHead>,
        network: &NetworkId,
    ) -> Result<EpochHead, HeadError> {
        if certificate.node() != self.node {
            return Err(HeadError::Node);
        }
        EpochHead::sign(signer, certificate, self.epoch, self.root(), prev, network)
    }

    /// Takes the next slot that was never used, durably: the log has it before the key is handed
    /// out, so a slot that a crash interrupted is lost and never signs twice.
    ///
    /// # Errors
    /// [`TakeError`]; no key is handed out.
    pub fn take(&mut self, log: &dyn SlotLog) -> Result<Slot, TakeError> {
        while let Some(slot) = self.order.pop() {
            match log.take(self.epoch, slot) {
                Ok(()) => return Ok(self.slot(slot)),
                Err(SlotError::Used) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TakeError::Exhausted)
    }

    fn slot(&self, slot: u32) -> Slot {
        let secret = self.secrets.descend(slot.into());
        Slot {
            node: self.node,
            epoch: self.epoch,
            slot,
            key: SigningKey::from_seed(secret.key()),
            blind: secret.secret(EXECUTION_BLIND, &[]),
            path: self.tree.path(slot),
        }
    }
}

impl fmt::Debug for ExecutionSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutionSlots").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// One slot that was taken: the key of one run, and what opens its identity later.
pub struct Slot {
    node: NodeId,
    epoch: Epoch,
    slot: u32,
    key: SigningKey,
    blind: Zeroizing<[u8; 32]>,
    path: Vec<Digest>,
}

impl Slot {
    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its number, a secret of the node.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.slot
    }

    /// The key that signs the receipt of one run.
    #[must_use]
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The identity that the receipt commits to.
    #[must_use]
    pub fn identity(&self, onion: OnionAddress, peer: PublicKey) -> RunIdentity {
        RunIdentity { node: self.node, onion, peer, epoch: self.epoch, slot: self.slot, blind: *self.blind }
    }

    /// What discloses the run to an authorised verifier.
    #[must_use]
    pub fn opening(&self, run: RunIdentity, head: EpochHead, certificate: Certificate) -> Opening {
        Opening { run, path: self.path.clone(), head, certificate }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::identity::Identity;
    use crate::testing::MemorySlotLog;

    const EPOCH: Epoch = Epoch::from_number(1_666);

    fn identity() -> Identity {
        Identity::from_seed(&[1; 64])
    }

    fn slots_of(epoch: Epoch) -> ExecutionSlots {
        ExecutionSlots::new(identity().roles(), identity().node_id(), epoch)
    }

    #[test]
    fn every_slot_is_handed_out_once_in_no_visible_order() {
        let (log, mut slots) = (MemorySlotLog::default(), slots_of(EPOCH));
        let mut numbers: Vec<_> =
            core::iter::from_fn(|| slots.take(&log).ok().map(|slot| slot.number())).collect();
        assert_eq!(numbers.len(), 1024);
        let ascents = numbers.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((450..575).contains(&ascents), "{ascents} of 1023 ascend");
        let other = slots_of(EPOCH.next());
        assert_ne!(other.order.last(), numbers.first());
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..1024));
        assert!(matches!(slots.take(&log), Err(TakeError::Exhausted)));
    }

    #[test]
    fn a_slot_has_the_documented_key_and_blind() {
        let mut slots = slots_of(EPOCH);
        let slot = slots.take(&MemorySlotLog::default()).expect("fresh");
        let key = identity().execution_key(EPOCH, slot.number());
        assert_eq!(slot.key().public(), key.public());
        assert_eq!(*slot.blind, *identity().execution_blind(EPOCH, slot.number()));
    }

    /// The node restarts: the tree is the same, and the log alone knows what was used.
    #[test]
    fn no_slot_is_used_again_after_a_restart() {
        let log = MemorySlotLog::default();
        let mut used = Vec::new();
        let mut root = None;
        for _ in 0..3 {
            let mut slots = slots_of(EPOCH);
            assert_eq!(*root.get_or_insert(slots.root()), slots.root());
            used.extend((0..5).map(|_| slots.take(&log).expect("free").number()));
        }
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 15);
    }

    #[test]
    fn no_key_is_handed_out_before_the_log_has_it() {
        struct Failing(Mutex<Vec<u32>>);
        impl SlotLog for Failing {
            fn take(&self, _: Epoch, slot: u32) -> Result<(), SlotError> {
                self.0.lock().unwrap().push(slot);
                Err(SlotError::Broken)
            }
            fn is_used(&self, _: Epoch, slot: u32) -> Result<bool, SlotError> {
                Ok(self.0.lock().unwrap().contains(&slot))
            }
            fn horizon(&self) -> Result<Epoch, SlotError> {
                Ok(Epoch::default())
            }
            fn forget_before(&self, _: Epoch) -> Result<(), SlotError> {
                Err(SlotError::Broken)
            }
        }
        let log = Failing(Mutex::default());
        let mut slots = slots_of(EPOCH);
        for _ in 0..2 {
            assert!(matches!(slots.take(&log), Err(TakeError::Log(SlotError::Broken))));
        }
        let tried = log.0.lock().unwrap();
        assert_ne!(tried[0], tried[1], "what may have been recorded is not tried again");
    }

    #[test]
    fn debug_shows_no_slot() {
        let mut slots = slots_of(EPOCH);
        let slot = slots.take(&MemorySlotLog::default()).expect("fresh");
        let shown = format!("{slot:?} {slots:?}");
        assert_eq!(shown, "Slot { epoch: Epoch(1666), .. } ExecutionSlots { epoch: Epoch(1666), .. }");
    }
}
