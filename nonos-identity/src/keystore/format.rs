use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{CreateError, CreateParams, Entropy, Keystore, OpenError};
use crate::domain::Domain;
use crate::domains::{KEYSTORE, KEYSTORE_SLOT};
use crate::identity::Identity;
use crate::key::NodeId;
use crate::time::Timestamp;
use crate::wire::{self, Wire};

/// What every keystore starts with; the version follows.
const MAGIC: &[u8; 4] = b"NNKS";

/// The version this crate writes and the only one it reads.
const VERSION: u8 = 1;

/// Most slots: a file can make us run Argon2id no more often than that.
const MAX_SLOTS: usize = 8;

/// The number of the passphrase kind of slot.
const PASSPHRASE: u8 = 0;

/// A key of the cipher.
type CipherKey = Zeroizing<[u8; 32]>;

/// The price of one guess of a passphrase (Argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Argon2Cost {
    /// Memory in KiB, 19 MiB to 1 GiB.
    #[n(0)]
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 16.
    #[n(1)]
    pub passes: u32,
    /// Lanes, 1 to 16.
    #[n(2)]
    pub lanes: u32,
}

impl Argon2Cost {
    /// The lowest cost that is accepted; below it a passphrase is guessed too cheaply.
    pub const MIN: Self = Self { memory_kib: 19 * 1024, passes: 1, lanes: 1 };

    /// The highest cost that is accepted; above it a planted file would stall the node.
    pub const MAX: Self = Self { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

    /// Whether both bounds hold.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        (Self::MIN.memory_kib..=Self::MAX.memory_kib).contains(&self.memory_kib)
            && (Self::MIN.passes..=Self::MAX.passes).contains(&self.passes)
            && (Self::MIN.lanes..=Self::MAX.lanes).contains(&self.lanes)
    }
}

/// 64 MiB, three passes, four lanes: the second recommended option of RFC 9106 section 4.
impl Default for Argon2Cost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// The parameters of a passphrase slot.
#[derive(Encode, Decode)]
struct PassphraseParams {
    #[n(0)]
    cost: Argon2Cost,
    #[cbor(n(1), with = "minicbor::bytes")]
    salt: [u8; 16],
}

impl Wire for PassphraseParams {
    const MAX_BYTES: usize = 64;
}

/// The data key, wrapped in one way.
#[derive(Clone, Encode, Decode)]
struct Slot {
    #[n(0)]
    kind: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    params: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    nonce: [u8; 24],
    #[cbor(n(3), with = "minicbor::bytes")]
    wrapped: Vec<u8>,
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
    seed: Zeroizing<[u8; Identity::SEED_BYTES]>,
    data_key: CipherKey,
    /// Position of the slot that opened.
    slot: usize,
}

/// [`Entropy`] by use.
struct Parts {
    data_key: CipherKey,
    salt: [u8; 16],
    slot_nonce: [u8; 24],
    payload_nonce: [u8; 24],
}

impl Parts {
    fn of(entropy: &Entropy) -> Result<Self, CreateError> {
        if entropy.iter().all(|byte| *byte == 0) {
            return Err(CreateError::NoEntropy);
        }
        let mut parts = Self {
            data_key: Zeroizing::new([0; 32]),
            salt: [0; 16],
            slot_nonce: [0; 24],
            payload_nonce: [0; 24],
        };
        let mut source = entropy.iter();
        let targets =
            [&mut parts.data_key[..], &mut parts.salt, &mut parts.slot_nonce, &mut parts.payload_nonce];
        for target in targets {
            target.iter_mut().zip(&mut source).for_each(|(to, from)| *to = *from);
        }
        Ok(parts)
    }
}

impl Sealed {
    pub(super) fn seal(root: NodeId, passphrase: &[u8], params: &CreateParams) -> Result<Self, CreateError> {
        if params.seed.iter().all(|byte| *byte == 0) {
            return Err(CreateError::NoEntropy);
        }
        let parts = Parts::of(&params.entropy)?;
        let slot = Slot::wrap(root, passphrase, params.cost, &parts, &parts.data_key)?;
        let header = Header { root, created: params.created, nonce: parts.payload_nonce, slots: vec![slot] };
        Ok(Self::encrypt(header, &parts.data_key, &params.seed))
    }

    /// The same secrets and data key behind a new passphrase in the place of the slot that
    /// opened; the payload is encrypted anew because its associated data covers the slots.
    pub(super) fn rewrap(
        &self,
        opened: &Opened,
        passphrase: &[u8],
        entropy: &Entropy,
        cost: Argon2Cost,
    ) -> Result<Self, CreateError> {
        let parts = Parts::of(entropy)?;
        let slot = Slot::wrap(self.header.root, passphrase, cost, &parts, &opened.data_key)?;
        let mut header = Header { nonce: parts.payload_nonce, ..self.header.clone() };
        header.slots.iter_mut().skip(opened.slot).take(1).for_each(|old| *old = slot.clone());
        Ok(Self::encrypt(header, &opened.data_key, &opened.seed))
    }

    fn encrypt(header: Header, data_key: &CipherKey, seed: &[u8; Identity::SEED_BYTES]) -> Self {
        let aad = payload_aad(&header);
        let ciphertext = encrypt(data_key, &header.nonce, &aad, seed);
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
        if header.slots.len() > MAX_SLOTS {
            return Err(OpenError::Malformed);
        }
        Ok(Self { header, ciphertext: body.ciphertext })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = Body { header: wire::to_bytes(&self.header), ciphertext: self.ciphertext.clone() };
        [MAGIC, &[VERSION][..], &wire::to_bytes(&body)].concat()
    }

    pub(super) fn open(&self, passphrase: &[u8]) -> Result<Opened, OpenError> {
        let (slot, data_key) = self.unlock(passphrase)?;
        let plain = decrypt(&data_key, &self.header.nonce, &payload_aad(&self.header), &self.ciphertext)
            .ok_or(OpenError::Altered)?;
        let mut seed = Zeroizing::new([0; Identity::SEED_BYTES]);
        if plain.len() != seed.len() {
            return Err(OpenError::Altered);
        }
        seed.copy_from_slice(&plain);
        let identity = Identity::from_seed(&seed);
        if identity.node_id() != self.header.root {
            return Err(OpenError::Altered);
        }
        Ok(Opened { identity, seed, data_key, slot })
    }

    /// Tries the passphrase on every passphrase slot.
    fn unlock(&self, passphrase: &[u8]) -> Result<(usize, CipherKey), OpenError> {
        let mut outcome = OpenError::NoPassphraseSlot;
        for (at, slot) in self.header.slots.iter().enumerate() {
            if slot.kind != PASSPHRASE {
                continue;
            }
            if let Some(data_key) = slot.unwrap(self.header.root, passphrase)? {
                return Ok((at, data_key));
            }
            outcome = OpenError::Passphrase;
        }
        Err(outcome)
    }
}

impl Slot {
    fn wrap(
        root: NodeId,
        passphrase: &[u8],
        cost: Argon2Cost,
        parts: &Parts,
        data_key: &CipherKey,
    ) -> Result<Self, CreateError> {
        if passphrase.is_empty() {
            return Err(CreateError::EmptyPassphrase);
        }
        if !cost.is_accepted() {
            return Err(CreateError::Cost);
        }
        let params = wire::to_bytes(&PassphraseParams { cost, salt: parts.salt });
        let key = stretch(passphrase, cost, &parts.salt).ok_or(CreateError::Memory)?;
        let aad = slot_aad(root, PASSPHRASE, &params);
        let wrapped = encrypt(&key, &parts.slot_nonce, &aad, &data_key[..]);
        Ok(Self { kind: PASSPHRASE, params, nonce: parts.slot_nonce, wrapped })
    }

    /// The data key, `None` if the passphrase is wrong.
    fn unwrap(&self, root: NodeId, passphrase: &[u8]) -> Result<Option<CipherKey>, OpenError> {
        let params: PassphraseParams = wire::from_bytes(&self.params).map_err(|_| OpenError::Malformed)?;
        if !params.cost.is_accepted() {
            return Err(OpenError::Cost);
        }
        let key = stretch(passphrase, params.cost, &params.salt).ok_or(OpenError::Memory)?;
        let aad = slot_aad(root, self.kind, &self.params);
        let Some(plain) = decrypt(&key, &self.nonce, &aad, &self.wrapped) else { return Ok(None) };
        let mut data_key = Zeroizing::new([0; 32]);
        if plain.len() != data_key.len() {
            return Err(OpenError::Malformed);
        }
        data_key.copy_from_slice(&plain);
        Ok(Some(data_key))
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

/// Argon2id; `None` if the cost, which was checked, cannot be paid in memory. The memory is
/// wiped: what is in it helps to guess the passphrase.
fn stretch(passphrase: &[u8], cost: Argon2Cost, salt: &[u8; 16]) -> Option<CipherKey> {
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len())).ok()?;
    let mut memory = Zeroizing::new(Vec::new());
    memory.try_reserve_exact(params.block_count()).ok()?;
    memory.resize(params.block_count(), Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut key[..], &mut memory[..])
        .ok()?;
    Some(key)
}

fn encrypt(key: &CipherKey, nonce: &[u8; 24], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    XChaCha20Poly1305::new(&Key::from(**key))
        .encrypt(&XNonce::from(*nonce), Payload { msg, aad })
        .expect("a message this short fits the cipher")
}

fn decrypt(key: &CipherKey, nonce: &[u8; 24], aad: &[u8], msg: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    XChaCha20Poly1305::new(&Key::from(**key))
        .decrypt(&XNonce::from(*nonce), Payload { msg, aad })
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS: &[u8] = b"correct horse";
    const KIND_TO_COME: u8 = 3;

    fn entropy(byte: u8) -> Entropy {
        Zeroizing::new([byte; Keystore::ENTROPY_BYTES])
    }

    fn seal() -> Sealed {
        let params = CreateParams {
            seed: Zeroizing::new([7; 64]),
            entropy: entropy(1),
            cost: Argon2Cost::MIN,
            created: Timestamp::from_secs(1),
        };
        Sealed::seal(Identity::from_seed(&params.seed).node_id(), PASS, &params).expect("seal")
    }

    /// Adds a slot as a later version of the writer would.
    fn with_slot(sealed: &Sealed, slot: Slot) -> Sealed {
        let opened = sealed.open(PASS).expect("open");
        let mut header = sealed.header.clone();
        header.slots.push(slot);
        Sealed::encrypt(header, &opened.data_key, &opened.seed)
    }

    fn later_slot() -> Slot {
        Slot { kind: KIND_TO_COME, params: vec![1, 2, 3], nonce: [4; 24], wrapped: vec![5; 48] }
    }

    fn reread(sealed: &Sealed) -> Sealed {
        Sealed::parse(&sealed.to_bytes()).expect("canonical")
    }

    #[test]
    fn slots_of_unknown_kinds_are_kept() {
        let sealed = reread(&with_slot(&seal(), later_slot()));
        let opened = sealed.open(PASS).expect("open");
        let changed = sealed.rewrap(&opened, b"new", &entropy(2), Argon2Cost::MIN).expect("rewrap");
        let changed = reread(&changed);
        let kinds: Vec<_> = changed.header.slots.iter().map(|slot| slot.kind).collect();
        assert_eq!(kinds, [PASSPHRASE, KIND_TO_COME]);
        assert_eq!(changed.header.slots[1].params, [1, 2, 3]);
        assert!(changed.open(b"new").is_ok());
        assert!(matches!(changed.open(PASS), Err(OpenError::Passphrase)));
    }

    #[test]
    fn any_of_several_passphrases_opens() {
        let sealed = seal();
        let data_key = sealed.open(PASS).expect("open").data_key;
        let parts = Parts::of(&entropy(3)).expect("entropy");
        let second = Slot::wrap(sealed.header.root, b"second", Argon2Cost::MIN, &parts, &data_key);
        let sealed = reread(&with_slot(&sealed, second.expect("wrap")));
        for (at, pass) in [PASS, b"second"].into_iter().enumerate() {
            assert_eq!(sealed.open(pass).expect("open").slot, at);
        }
        let opened = sealed.open(b"second").expect("open");
        let changed = sealed.rewrap(&opened, b"third", &entropy(4), Argon2Cost::MIN).expect("rewrap");
        assert!(changed.open(PASS).is_ok() && changed.open(b"third").is_ok());
        assert!(matches!(changed.open(b"second"), Err(OpenError::Passphrase)));
    }

    #[test]
    fn a_slot_that_was_removed_or_swapped_is_noticed() {
        let sealed = with_slot(&seal(), later_slot());
        let mut removed = reread(&sealed);
        removed.header.slots.truncate(1);
        assert!(matches!(removed.open(PASS), Err(OpenError::Altered)));
        let mut swapped = reread(&sealed);
        swapped.header.slots.swap(0, 1);
        assert!(matches!(swapped.open(PASS), Err(OpenError::Altered)));
    }

    #[test]
    fn a_store_without_a_passphrase_slot_says_so() {
        let mut sealed = with_slot(&seal(), later_slot());
        sealed.header.slots.remove(0);
        assert!(matches!(sealed.open(PASS), Err(OpenError::NoPassphraseSlot)));
    }

    #[test]
    fn the_number_of_slots_is_bounded() {
        let mut sealed = seal();
        sealed.header.slots.resize(MAX_SLOTS, later_slot());
        assert!(Sealed::parse(&sealed.to_bytes()).is_ok());
        sealed.header.slots.resize(MAX_SLOTS + 1, later_slot());
        assert!(matches!(Sealed::parse(&sealed.to_bytes()), Err(OpenError::Malformed)));
    }

    #[test]
    fn the_payload_belongs_to_the_header() {
        let (a, mut b) = (seal(), seal());
        b.header.created = Timestamp::from_secs(2);
        assert!(matches!(b.open(PASS), Err(OpenError::Altered)));
        // A header that was sealed properly around somebody else's seed.
        let opened = a.open(PASS).expect("open");
        let foreign = Sealed::encrypt(a.header.clone(), &opened.data_key, &[8; 64]);
        assert!(matches!(foreign.open(PASS), Err(OpenError::Altered)));
    }

    #[test]
    fn a_changed_passphrase_changes_every_nonce() {
        let sealed = seal();
        let opened = sealed.open(PASS).expect("open");
        let changed = sealed.rewrap(&opened, PASS, &entropy(2), Argon2Cost::MIN).expect("rewrap");
        assert_ne!(changed.header.nonce, sealed.header.nonce);
        assert_ne!(changed.header.slots[0].nonce, sealed.header.slots[0].nonce);
        assert_ne!(changed.header.slots[0].params, sealed.header.slots[0].params, "salt");
    }
}
