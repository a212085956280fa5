use core::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::kek::{Kek, KekError, KekSource, NewKek, SlotKind};
use crate::key::NodeId;
use crate::wire::{self, Wire};

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
pub(crate) struct PassphraseParams {
    #[n(0)]
    cost: Argon2Cost,
    #[cbor(n(1), with = "minicbor::bytes")]
    salt: [u8; 16],
}

impl Wire for PassphraseParams {
    const MAX_BYTES: usize = 64;
}

/// A passphrase, through Argon2id. Slots of other costs open as well; new ones get its own.
pub struct Passphrase {
    text: Zeroizing<Vec<u8>>,
    cost: Argon2Cost,
}

impl Passphrase {
    /// A passphrase, for new slots of the default cost.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        Self::with_cost(text, Argon2Cost::default())
    }

    /// A passphrase, for new slots of a given cost.
    #[must_use]
    pub fn with_cost(text: &[u8], cost: Argon2Cost) -> Self {
        Self { text: Zeroizing::new(text.to_vec()), cost }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl KekSource for Passphrase {
    fn kind(&self) -> SlotKind {
        SlotKind::Passphrase
    }

    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        if self.text.is_empty() {
            return Err(KekError::EmptyPassphrase);
        }
        let [salt, _] = *random.as_chunks().0 else { return Err(KekError::Malformed) };
        let params = wire::to_bytes(&PassphraseParams { cost: self.cost, salt });
        Ok(NewKek { key: self.recover(root, &params)?, params })
    }

    fn recover(&self, _: NodeId, params: &[u8]) -> Result<Kek, KekError> {
        let params: PassphraseParams = wire::from_bytes(params).map_err(|_| KekError::Malformed)?;
        if !params.cost.is_accepted() {
            return Err(KekError::Cost);
        }
        stretch(&self.text, params.cost, &params.salt).ok_or(KekError::Memory)
    }
}

/// Argon2id; `None` if the cost, which was checked, cannot be paid in memory. The memory is
/// wiped: what is in it helps to guess the passphrase.
fn stretch(passphrase: &[u8], cost: Argon2Cost, salt: &[u8; 16]) -> Option<Kek> {
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len())).ok()?;
    let mut memory = Zeroizing::new(Vec::new());
    memory.try_reserve_exact(params.block_count()).ok()?;
    memory.resize(params.block_count(), Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut key[..], &mut memory[..])
        .ok()?;
    Some(Kek::from_bytes(&key))
}
