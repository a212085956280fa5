use core::num::NonZeroU64;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::kek::{Kek, KekError, KekSource, SlotKind};
use super::slot::{Label, SlotId, SlotInfo};
use super::{ChangeError, CreateError, Entropy, Keystore, OpenError};
use crate::domain::Domain;
use crate::domains::{KEYSTORE, KEYSTORE_SLOT};
use crate::identity::Identity;
use crate::key::NodeId;
use crate::seed::Seed;
use crate::time::Timestamp;
use crate::wire::{self, Wire};

/// What every keystore starts with; the version follows.
const MAGIC: &[u8; 4] = b"NNKS";

/// The version this crate writes and the only one it reads.
const VERSION: u8 = 1;

/// The data key, wrapped in one way.
#[derive(Clone, Encode, Decode)]
pub(super) struct Slot {
    #[n(0)]
    kind: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    params: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    nonce: [u8; 24],
    #[cbor(n(3), with = "minicbor::bytes")]
    wrapped: Vec<u8>,
    #[n(4)]
    label: Option<Label>,
    #[n(5)]
    created: Option<Timestamp>,
}

/// All that the payload's associated data covers.
#[derive(Clone, Encode, Decode)]
struct Header {
    #[n(0)]
    root: NodeId,
    #[n(1)]
    created: Timestamp,
    #[cbor(n(2), with = "minicbor::bytes")]
    nonce: [u8; 24],
    #[n(3)]
    slots: Vec<Slot>,
    /// Changes since the store was created; absent in a store that never changed.
    #[n(4)]
    generation: Option<NonZeroU64>,
}

impl Wire for Header {
    const MAX_BYTES: usize = Keystore::MAX_BYTES;
}

#[derive(Encode, Decode)]
struct Body {
    #[cbor(n(0), with = "minicbor::bytes")]
    header: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
}

impl Wire for Body {
    const MAX_BYTES: usize = Keystore::MAX_BYTES;
}

/// A keystore in its encrypted form.
pub(crate) struct Sealed {
    header: Header,
    ciphertext: Vec<u8>,
}

/// The content of a keystore.
pub(super) struct Opened {
    pub(super) identity: Identity,
    pub(super) seed: Seed,
    data_key: Kek,
    /// The slot that opened.
    pub(super) slot: SlotId,
}

/// [`Entropy`] by use.
pub(super) struct Parts {
    data_key: Kek,
    slot_nonce: [u8; 24],
    payload_nonce: [u8; 24],
    /// For the source of the slot's key: a salt, an ephemeral key.
    source: Zeroizing<[u8; 32]>,
}

impl Parts {
    pub(super) fn of(entropy: &Entropy) -> Result<Self, CreateError> {
        if entropy.iter().all(|byte| *byte == 0) {
            return Err(CreateError::NoEntropy);
        }
        let (mut data_key, mut source) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        let (mut slot_nonce, mut payload_nonce) = ([0; 24], [0; 24]);
        let (salt, more) = source.split_at_mut(16);
        let mut bytes = entropy.iter();
        for target in [&mut data_key[..], salt, &mut slot_nonce, &mut payload_nonce, more] {
            target.iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = *from);
        }
        Ok(Self { data_key: Kek::from_bytes(&data_key), slot_nonce, payload_nonce, source })
    }
}

impl Sealed {
    /// A first keystore with one slot.
    pub(super) fn seal(
        root: NodeId,
        source: &dyn KekSource,
        seed: &Seed,
        entropy: &Entropy,
        created: Timestamp,
    ) -> Result<Self, CreateError> {
        if seed.is_zero() {
            return Err(CreateError::NoEntropy);
        }
        let parts = Parts::of(entropy)?;
        let slot = Slot::wrap(root, source, &parts, &parts.data_key)?;
        let nonce = parts.payload_nonce;
        let header = Header { root, created, nonce, slots: vec![slot], generation: None };
        Ok(Self::encrypt(header, &parts.data_key, seed))
    }

    /// A slot for the data key of this keystore.
    pub(super) fn wrap(
        &self,
        opened: &Opened,
        source: &dyn KekSource,
        parts: &Parts,
        label: Option<Label>,
        created: Option<Timestamp>,
    ) -> Result<Slot, CreateError> {
        let slot = Slot::wrap(self.header.root, source, parts, &opened.data_key)?;
        Ok(Slot { label, created, ..slot })
    }

    /// The next generation: the same secrets and data key with other slots. The payload is
    /// encrypted anew because its associated data covers them.
    pub(super) fn with_slots(
        &self,
        opened: &Opened,
        slots: Vec<Slot>,
        parts: &Parts,
    ) -> Result<Self, ChangeError> {
        let next = NonZeroU64::MIN.saturating_add(self.generation());
        self.encode(opened, slots, parts, Some(next))
    }

    /// A copy of this generation with some of the slots only.
    pub(super) fn copy_with(
        &self,
        opened: &Opened,
        slots: Vec<Slot>,
        parts: &Parts,
    ) -> Result<Self, ChangeError> {
        self.encode(opened, slots, parts, self.header.generation)
    }

    fn encode(
        &self,
        opened: &Opened,
        slots: Vec<Slot>,
        parts: &Parts,
        generation: Option<NonZeroU64>,
    ) -> Result<Self, ChangeError> {
        if slots.len() > Keystore::MAX_SLOTS {
            return Err(ChangeError::TooManySlots);
        }
        // A slot that only a later version can open would lock out this one.
        if !slots.iter().any(|slot| !matches!(slot.kind(), SlotKind::Unknown(_))) {
            return Err(ChangeError::LastSlot);
        }
        let header = Header { nonce: parts.payload_nonce, slots, generation, ..self.header.clone() };
        let sealed = Self::encrypt(header, &opened.data_key, &opened.seed);
        if sealed.to_bytes().len() > Keystore::MAX_BYTES {
            return Err(ChangeError::TooLong);
        }
        Ok(sealed)
    }

    fn encrypt(header: Header, data_key: &Kek, seed: &Seed) -> Self {
        let aad = payload_aad(&header);
        let ciphertext = encrypt(data_key, &header.nonce, &aad, seed.as_bytes());
        Self { header, ciphertext }
    }

    /// Reads the encrypted form; nothing in it is authenticated yet.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(OpenError::Malformed)?;
        let (&version, rest) = rest.split_first().ok_or(OpenError::Malformed)?;
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let body: Body = wire::from_bytes(rest).map_err(|_| OpenError::Malformed)?;
        let header: Header = wire::from_bytes(&body.header).map_err(|_| OpenError::Malformed)?;
        let fits = |slot: &Slot| slot.params.len() <= Keystore::MAX_PARAMS_BYTES;
        if header.slots.len() > Keystore::MAX_SLOTS || !header.slots.iter().all(fits) {
            return Err(OpenError::Malformed);
        }
        Ok(Self { header, ciphertext: body.ciphertext })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = Body { header: wire::to_bytes(&self.header), ciphertext: self.ciphertext.clone() };
        [MAGIC, &[VERSION][..], &wire::to_bytes(&body)].concat()
    }

    /// Whether a nonce was used in this generation: a second use would give the key of the
    /// authenticator away.
    pub(super) fn used(&self, parts: &Parts) -> bool {
        self.header.nonce == parts.payload_nonce
            || self.header.slots.iter().any(|slot| slot.nonce == parts.slot_nonce)
    }

    pub(super) fn root(&self) -> NodeId {
        self.header.root
    }

    pub(super) fn created(&self) -> Timestamp {
        self.header.created
    }

    pub(super) fn generation(&self) -> u64 {
        self.header.generation.map_or(0, NonZeroU64::get)
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.header.slots
    }

    pub(super) fn open(&self, source: &dyn KekSource) -> Result<Opened, OpenError> {
        let (slot, data_key) = self.unlock(source)?;
        let seed = self.decrypt(&data_key)?;
        let identity = Identity::from_seed(seed.as_bytes());
        if identity.node_id() != self.header.root {
            return Err(OpenError::Altered);
        }
        Ok(Opened { identity, seed, data_key, slot })
    }

    /// Whether a copy belongs to what was opened and is whole.
    pub(super) fn check_copy(&self, opened: &Opened) -> Result<(), OpenError> {
        let seed = self.decrypt(&opened.data_key)?;
        if self.header.root != opened.identity.node_id() || seed.as_bytes() != opened.seed.as_bytes() {
            return Err(OpenError::Altered);
        }
        Ok(())
    }

    fn decrypt(&self, data_key: &Kek) -> Result<Seed, OpenError> {
        let plain = decrypt(data_key, &self.header.nonce, &payload_aad(&self.header), &self.ciphertext)
            .ok_or(OpenError::Altered)?;
        let seed = plain.as_slice().try_into().map_err(|_| OpenError::Altered)?;
        Ok(Seed::from_bytes(seed))
    }

    /// Tries the source on every slot of its kind. One that opens decides; otherwise the first
    /// failure that is more than a wrong key is the one to report.
    fn unlock(&self, source: &dyn KekSource) -> Result<(SlotId, Kek), OpenError> {
        let kind = source.kind();
        let mut outcome = None;
        for slot in self.header.slots.iter().filter(|slot| slot.kind() == kind) {
            let failure = match slot.unwrap(self.header.root, source) {
                Ok(Some(data_key)) => return Ok((slot.id(), data_key)),
                Ok(None) | Err(KekError::Foreign) => OpenError::wrong_key(kind),
                Err(error) => error.into(),
            };
            // A device that said no once is not asked again.
            let is_final = matches!(failure, OpenError::Source(_));
            if outcome.is_none() || is_final {
                outcome = Some(failure);
            }
            if is_final {
                break;
            }
        }
        Err(outcome.unwrap_or_else(|| OpenError::no_slot(kind)))
    }
}

impl Slot {
    fn wrap(
        root: NodeId,
        source: &dyn KekSource,
        parts: &Parts,
        data_key: &Kek,
    ) -> Result<Self, CreateError> {
        let new = source.fresh(root, &parts.source)?;
        if new.params.len() > Keystore::MAX_PARAMS_BYTES {
            return Err(CreateError::Params(new.params.len()));
        }
        let (kind, nonce) = (source.kind().number(), parts.slot_nonce);
        let aad = slot_aad(root, kind, &new.params);
        let wrapped = encrypt(&new.key, &nonce, &aad, data_key.as_bytes());
        Ok(Self { kind, params: new.params, nonce, wrapped, label: None, created: None })
    }

    /// The data key, `None` if the source has another key.
    fn unwrap(&self, root: NodeId, source: &dyn KekSource) -> Result<Option<Kek>, KekError> {
        let key = source.recover(root, &self.params)?;
        let aad = slot_aad(root, self.kind, &self.params);
        let Some(plain) = decrypt(&key, &self.nonce, &aad, &self.wrapped) else { return Ok(None) };
        let data_key = plain.as_slice().try_into().map_err(|_| KekError::Malformed)?;
        Ok(Some(Kek::from_bytes(data_key)))
    }

    fn kind(&self) -> SlotKind {
        SlotKind::from_number(self.kind)
    }

    pub(super) fn id(&self) -> SlotId {
        SlotId::of(&[&self.nonce, &self.wrapped, &self.params])
    }

    pub(super) fn label(&self) -> Option<&Label> {
        self.label.as_ref()
    }

    pub(super) fn info(&self) -> SlotInfo {
        SlotInfo { id: self.id(), kind: self.kind(), label: self.label.clone(), created: self.created }
    }
}

fn payload_aad(header: &Header) -> Vec<u8> {
    aad(KEYSTORE, &[&wire::to_bytes(header)])
}

fn slot_aad(root: NodeId, kind: u8, params: &[u8]) -> Vec<u8> {
    aad(KEYSTORE_SLOT, &[root.as_bytes(), &[kind], params])
}

/// Only the last part has a variable length.
fn aad(domain: Domain, parts: &[&[u8]]) -> Vec<u8> {
    [&[domain.as_bytes(), MAGIC, &[VERSION]], parts].concat().concat()
}

fn encrypt(key: &Kek, nonce: &[u8; 24], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    XChaCha20Poly1305::new(key.as_bytes().into())
        .encrypt(nonce.into(), Payload { msg, aad })
        .expect("a message this short fits the cipher")
}

fn decrypt(key: &Kek, nonce: &[u8; 24], aad: &[u8], msg: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    XChaCha20Poly1305::new(key.as_bytes().into())
        .decrypt(nonce.into(), Payload { msg, aad })
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::passphrase::{Argon2Cost, Passphrase};

    const PASS: &[u8] = b"correct horse";
    const KIND_TO_COME: u8 = 200;

    fn entropy(byte: u8) -> Entropy {
        Zeroizing::new([byte; Keystore::ENTROPY_BYTES])
    }

    fn source(text: &[u8]) -> Passphrase {
        Passphrase::with_cost(text, Argon2Cost::MIN)
    }

    fn seal() -> Sealed {
        let (seed, created) = (Seed::from_bytes(&[7; 64]), Timestamp::from_secs(1));
        let root = Identity::from_seed(&[7; 64]).node_id();
        Sealed::seal(root, &source(PASS), &seed, &entropy(1), created).expect("seal")
    }

    /// Adds a slot as a later version of the writer would.
    fn with_slot(sealed: &Sealed, slot: Slot) -> Sealed {
        let opened = sealed.open(&source(PASS)).expect("open");
        let mut header = sealed.header.clone();
        header.slots.push(slot);
        Sealed::encrypt(header, &opened.data_key, &opened.seed)
    }

    fn later_slot() -> Slot {
        let (kind, wrapped) = (KIND_TO_COME, vec![5; 48]);
        Slot { kind, params: vec![1, 2, 3], nonce: [4; 24], wrapped, label: None, created: None }
    }

    fn reread(sealed: &Sealed) -> Sealed {
        Sealed::parse(&sealed.to_bytes()).expect("canonical")
    }

    #[test]
    fn a_slot_that_was_removed_or_swapped_is_noticed() {
        let sealed = with_slot(&seal(), later_slot());
        let mut removed = reread(&sealed);
        removed.header.slots.truncate(1);
        assert!(matches!(removed.open(&source(PASS)), Err(OpenError::Altered)));
        let mut swapped = reread(&sealed);
        swapped.header.slots.swap(0, 1);
        assert!(matches!(swapped.open(&source(PASS)), Err(OpenError::Altered)));
    }

    #[test]
    fn labels_times_and_the_generation_are_authenticated() {
        let edits: [fn(&mut Header); 4] = [
            |header| header.slots[0].label = Some("mine".parse().expect("label")),
            |header| header.slots[0].created = Some(Timestamp::from_secs(1)),
            |header| header.generation = Some(NonZeroU64::MIN),
            |header| header.created = Timestamp::from_secs(2),
        ];
        for (at, edit) in edits.into_iter().enumerate() {
            let mut sealed = seal();
            edit(&mut sealed.header);
            assert!(matches!(reread(&sealed).open(&source(PASS)), Err(OpenError::Altered)), "edit {at}");
        }
    }

    #[test]
    fn a_store_without_a_passphrase_slot_says_so() {
        let mut sealed = with_slot(&seal(), later_slot());
        sealed.header.slots.remove(0);
        assert!(matches!(sealed.open(&source(PASS)), Err(OpenError::NoPassphraseSlot)));
    }

    #[test]
    fn the_size_of_a_store_is_bounded() {
        let mut sealed = seal();
        sealed.header.slots.resize(Keystore::MAX_SLOTS, later_slot());
        assert!(Sealed::parse(&sealed.to_bytes()).is_ok());
        sealed.header.slots.resize(Keystore::MAX_SLOTS + 1, later_slot());
        assert!(matches!(Sealed::parse(&sealed.to_bytes()), Err(OpenError::Malformed)));
        sealed.header.slots.truncate(1);
        sealed.header.slots[0].params = vec![0; Keystore::MAX_PARAMS_BYTES + 1];
        assert!(matches!(Sealed::parse(&sealed.to_bytes()), Err(OpenError::Malformed)));
        // The largest store that `parse` takes slot by slot fits into one file.
        let label = Some("x".repeat(Label::MAX_BYTES).parse().expect("label"));
        let params = vec![255; Keystore::MAX_PARAMS_BYTES];
        let slot = Slot { params, label, created: Some(Timestamp::from_secs(u64::MAX)), ..later_slot() };
        let header = Header {
            slots: vec![slot; Keystore::MAX_SLOTS],
            generation: Some(NonZeroU64::MAX),
            ..sealed.header
        };
        assert!(Sealed::parse(&Sealed { header, ..sealed }.to_bytes()).is_ok());
    }

    #[test]
    fn the_payload_belongs_to_the_header() {
        let sealed = seal();
        // A header that was sealed properly around somebody else's seed.
        let opened = sealed.open(&source(PASS)).expect("open");
        let seed = Seed::from_bytes(&[8; 64]);
        let foreign = Sealed::encrypt(sealed.header.clone(), &opened.data_key, &seed);
        assert!(matches!(foreign.open(&source(PASS)), Err(OpenError::Altered)));
        assert!(matches!(foreign.check_copy(&opened), Err(OpenError::Altered)));
        assert!(sealed.check_copy(&opened).is_ok());
    }

    #[test]
    fn the_last_slot_that_opens_here_stays() {
        let sealed = with_slot(&seal(), later_slot());
        let opened = sealed.open(&source(PASS)).expect("open");
        let parts = Parts::of(&entropy(2)).expect("entropy");
        let keep = |slots: Vec<Slot>| sealed.with_slots(&opened, slots, &parts);
        assert!(matches!(keep(vec![]), Err(ChangeError::LastSlot)));
        assert!(matches!(keep(vec![later_slot()]), Err(ChangeError::LastSlot)));
        let kept = reread(&keep(sealed.slots().to_vec()).expect("both"));
        assert_eq!(kept.generation(), 1);
        assert_eq!(kept.slots()[1].info().kind, SlotKind::Unknown(KIND_TO_COME));
        assert_eq!(kept.slots()[1].params, [1, 2, 3]);
        assert!(kept.open(&source(PASS)).is_ok());
    }

    #[test]
    fn a_nonce_is_never_used_twice() {
        let sealed = seal();
        let used = |byte| sealed.used(&Parts::of(&entropy(byte)).expect("entropy"));
        assert!(used(1) && !used(2));
    }
}
