use core::fmt;

use super::format::{Opened, Parts, Sealed, Slot};
use super::kek::KekSource;
use super::slot::{Label, SlotId, SlotInfo};
use super::{
    AnchorError, ChangeError, CreateError, Entropy, KeyStore, OpenError, RollbackAnchor, StorageError,
};
use crate::identity::Identity;
use crate::seed::{Seed, SeedSource};
use crate::signer::SignerError;
use crate::time::Timestamp;

/// What goes into a new slot.
#[derive(Clone)]
pub struct NewSlot<'a> {
    /// What the slot will open with.
    pub source: &'a dyn KekSource,
    /// What a person calls it.
    pub label: Option<Label>,
    /// When it is added; informative.
    pub created: Option<Timestamp>,
    /// Fresh random bytes; the data-key part is not used.
    pub entropy: &'a Entropy,
}

impl fmt::Debug for NewSlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSlot")
            .field("kind", &self.source.kind())
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// An opened keystore: its secrets, and the means to change what opens it.
///
/// A change is written whole before the call returns, in a new generation; if another writer was
/// faster, it fails with [`StorageError::Changed`] and the store is as the other left it. Copies
/// of older generations keep opening with the slots they had: taking a slot out does not protect
/// from whoever has both such a copy and the slot's key.
pub struct OpenKeystore<'s> {
    store: &'s dyn KeyStore,
    anchor: Option<&'s dyn RollbackAnchor>,
    /// The store as it was read or last written.
    bytes: Vec<u8>,
    sealed: Sealed,
    opened: Opened,
}

impl<'s> OpenKeystore<'s> {
    /// Creates a keystore with one slot and opens it.
    ///
    /// # Errors
    /// [`CreateError`]; in particular, what is stored already is never replaced.
    pub fn create(
        store: &'s dyn KeyStore,
        source: &dyn KekSource,
        seed: &Seed,
        entropy: &Entropy,
        created: Timestamp,
    ) -> Result<Identity, CreateError> {
        // Before the expensive part; `create` below decides.
        if store.load()?.is_some() {
            return Err(StorageError::Exists.into());
        }
        let identity = Identity::from_seed(seed.as_bytes());
        let sealed = Sealed::seal(identity.node_id(), source, seed, entropy, created)?;
        store.create(&sealed.to_bytes())?;
        Ok(identity)
    }

    /// Opens a keystore. An older copy of it opens as well.
    ///
    /// # Errors
    /// [`OpenError`]; [`StorageError::Missing`] in it is the only one after which a caller may
    /// create a keystore.
    pub fn open(store: &'s dyn KeyStore, source: &dyn KekSource) -> Result<Self, OpenError> {
        let bytes = store.load()?.ok_or(StorageError::Missing)?;
        let sealed = Sealed::parse(&bytes)?;
        let opened = sealed.open(source)?;
        Ok(Self { store, anchor: None, bytes, sealed, opened })
    }

    /// Opens a keystore that must not be older than an anchor remembers, and tells the anchor of
    /// it and of every later change.
    ///
    /// # Errors
    /// As [`Self::open`]; [`OpenError::RolledBack`], and [`AnchorError::Missing`] if the anchor
    /// remembers nothing: then somebody took it away, or [`Self::anchor_to`] was never called.
    pub fn open_anchored(
        store: &'s dyn KeyStore,
        source: &dyn KekSource,
        anchor: &'s dyn RollbackAnchor,
    ) -> Result<Self, OpenError> {
        let open = Self::open(store, source)?;
        if anchor.read(open.sealed.root())?.is_none() {
            return Err(AnchorError::Missing.into());
        }
        open.anchor_to(anchor)
    }

    /// Ties the keystore to an anchor, which from now on remembers its generation.
    ///
    /// # Errors
    /// [`OpenError::RolledBack`] if the anchor knows of a later one; [`OpenError::Anchor`].
    pub fn anchor_to(mut self, anchor: &'s dyn RollbackAnchor) -> Result<Self, OpenError> {
        let (root, found) = (self.sealed.root(), self.sealed.generation());
        match anchor.read(root)? {
            Some(expected) if expected > found => return Err(OpenError::RolledBack { found, expected }),
            Some(expected) if expected == found => {}
            _ => anchor.raise(root, found)?,
        }
        self.anchor = Some(anchor);
        Ok(self)
    }

    /// The keys.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.opened.identity
    }

    /// The keys, and no more changes.
    #[must_use]
    pub fn into_identity(self) -> Identity {
        self.opened.identity
    }

    /// Its slots, authenticated.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.sealed.slots().iter().map(Slot::info).collect()
    }

    /// The slot that opened it.
    #[must_use]
    pub const fn slot(&self) -> SlotId {
        self.opened.slot
    }

    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.sealed.created()
    }

    /// How often it was changed since.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.sealed.generation()
    }

    /// Adds a slot.
    ///
    /// # Errors
    /// [`ChangeError`]; the store is then as it was, but for [`ChangeError::Anchor`].
    pub fn add(&mut self, new: &NewSlot<'_>) -> Result<SlotId, ChangeError> {
        // Before the expensive part; the encoder decides.
        if self.sealed.slots().len() >= super::Keystore::MAX_SLOTS {
            return Err(ChangeError::TooManySlots);
        }
        let parts = self.parts(new.entropy)?;
        let slot = self.sealed.wrap(&self.opened, new.source, &parts, new.label.clone(), new.created)?;
        let (id, mut slots) = (slot.id(), self.sealed.slots().to_vec());
        slots.push(slot);
        self.write(slots, &parts)?;
        Ok(id)
    }

    /// Takes a slot out. The last one that this version can open stays.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn remove(&mut self, id: SlotId, entropy: &Entropy) -> Result<(), ChangeError> {
        let at = self.position(id)?;
        let parts = self.parts(entropy)?;
        let mut slots = self.sealed.slots().to_vec();
        slots.remove(at);
        self.write(slots, &parts)
    }

    /// Puts a new slot in the place of one, in one step: another passphrase, a fresh salt. It
    /// keeps the label unless the new one has its own.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn rewrap(&mut self, id: SlotId, new: &NewSlot<'_>) -> Result<SlotId, ChangeError> {
        let at = self.position(id)?;
        let parts = self.parts(new.entropy)?;
        let mut slots = self.sealed.slots().to_vec();
        let Some(place) = slots.get_mut(at) else { return Err(ChangeError::NoSuchSlot) };
        let label = new.label.clone().or_else(|| place.label().cloned());
        *place = self.sealed.wrap(&self.opened, new.source, &parts, label, new.created)?;
        let new = place.id();
        self.write(slots, &parts)?;
        if self.opened.slot == id {
            self.opened.slot = new;
        }
        Ok(new)
    }

    /// The bytes of a copy of this generation, with all slots or with some: a backup that opens
    /// with nothing but the phrase in the safe, say.
    ///
    /// # Errors
    /// [`ChangeError::NoSuchSlot`], [`ChangeError::LastSlot`] if none of them opens here, or
    /// [`ChangeError::Create`].
    pub fn copy(&self, ids: &[SlotId], entropy: &Entropy) -> Result<Vec<u8>, ChangeError> {
        let parts = self.parts(entropy)?;
        let mut slots = Vec::new();
        for id in ids {
            slots.extend(self.sealed.slots().get(self.position(*id)?).cloned());
        }
        Ok(self.sealed.copy_with(&self.opened, slots, &parts)?.to_bytes())
    }

    /// Checks that bytes, read back from a backup, hold the secrets of this keystore.
    ///
    /// # Errors
    /// [`OpenError`] tells what is wrong with them.
    pub fn check_copy(&self, bytes: &[u8]) -> Result<Vec<SlotInfo>, OpenError> {
        let copy = Sealed::parse(bytes)?;
        copy.check_copy(&self.opened)?;
        Ok(copy.slots().iter().map(Slot::info).collect())
    }

    fn position(&self, id: SlotId) -> Result<usize, ChangeError> {
        self.sealed.slots().iter().position(|slot| slot.id() == id).ok_or(ChangeError::NoSuchSlot)
    }

    fn parts(&self, entropy: &Entropy) -> Result<Parts, CreateError> {
        let parts = Parts::of(entropy)?;
        if self.sealed.used(&parts) { Err(CreateError::ReusedEntropy) } else { Ok(parts) }
    }

    fn write(&mut self, slots: Vec<Slot>, parts: &Parts) -> Result<(), ChangeError> {
        let next = self.sealed.with_slots(&self.opened, slots, parts)?;
        let bytes = next.to_bytes();
        self.store.replace(&self.bytes, &bytes).map_err(CreateError::from)?;
        self.bytes = bytes;
        self.sealed = next;
        if let Some(anchor) = self.anchor {
            anchor.raise(self.sealed.root(), self.sealed.generation())?;
        }
        Ok(())
    }
}

impl SeedSource for OpenKeystore<'_> {
    fn seed(&self) -> Result<Seed, SignerError> {
        Ok(self.opened.seed.clone())
    }
}

impl fmt::Debug for OpenKeystore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenKeystore")
            .field("identity", &self.opened.identity)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
