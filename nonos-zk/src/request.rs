use minicbor::{Decode, Encode};
use nonos_identity::WideDigest;
use nonos_identity::wire::{self, DecodeError, Wire as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::identity::{IdentityCommitment, IdentitySecret};
use crate::statement::{Statement, Witness};
use crate::trace::Trace;
use crate::tree::{TREE_DEPTH, TreePath};

/// Bytes of a witness beside its checkpoints: scalar, blind and 20 siblings of 34 bytes, a digest of
/// 66, and numbers.
const FIXED_BYTES: usize = 1_024;

/// Bytes of a checkpoint.
const CHECKPOINT_BYTES: usize = 2 + WideDigest::LEN;

/// What a prover in another address space is told for one proof: **secret**, and for that prover alone.
///
/// Its bytes are the seed, the length of the statement as two little-endian bytes, the statement, and
/// the witness. No `Debug`, no `PartialEq`.
#[expect(missing_debug_implementations, reason = "all of it is secret")]
pub struct ProveRequest {
    /// What to prove.
    pub statement: Statement,
    /// What proves it.
    pub witness: Witness,
    /// 32 fresh random bytes for the blinding.
    pub seed: Zeroizing<[u8; 32]>,
}

impl ProveRequest {
    /// The bytes of a request; they wipe themselves.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if the witness exceeds [`Witness::MAX_SECRET_BYTES`].
    pub fn to_secret_bytes(
        statement: &Statement,
        witness: &Witness,
        seed: &[u8; 32],
    ) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        let statement = wire::to_bytes(statement);
        let witness = witness.to_secret_bytes()?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(34 + statement.len() + witness.len()));
        bytes.extend_from_slice(seed);
        let len =
            u16::try_from(statement.len()).map_err(|_| too_long(statement.len(), Statement::MAX_BYTES))?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&statement);
        bytes.extend_from_slice(&witness);
        Ok(bytes)
    }

    /// Reads bytes of [`Self::to_secret_bytes`] back, and takes no other encoding.
    ///
    /// # Errors
    /// [`DecodeError`]: the fault of whoever made the bytes.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (seed, rest) = bytes.split_first_chunk::<32>().ok_or(DecodeError::Malformed)?;
        let (len, rest) = rest.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
        let (statement, witness) =
            rest.split_at_checked(u16::from_le_bytes(*len).into()).ok_or(DecodeError::Malformed)?;
        Ok(Self {
            statement: wire::from_bytes(statement)?,
            witness: Witness::from_secret_bytes(witness)?,
            seed: Zeroizing::new(*seed),
        })
    }
}

/// The wire form of a witness.
#[derive(Encode, Decode)]
struct Fields {
    #[cbor(n(0), with = "minicbor::bytes")]
    scalar: [u8; 32],
    #[n(1)]
    leaf: u32,
    #[n(2)]
    siblings: [IdentityCommitment; TREE_DEPTH],
    #[n(3)]
    slot: u32,
    #[n(4)]
    gas_used: u64,
    #[n(5)]
    peak_pages: u32,
    #[n(6)]
    host_calls: u64,
    #[n(7)]
    cpu_features: u32,
    #[n(8)]
    isolation: u16,
    #[n(9)]
    payload: WideDigest,
    #[n(10)]
    checkpoints: Vec<WideDigest>,
    #[cbor(n(11), with = "minicbor::bytes")]
    blind: [u8; 32],
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.scalar.zeroize();
        self.blind.zeroize();
    }
}

impl Fields {
    fn of(witness: &Witness) -> Self {
        let Witness { secret, path, trace, slot } = witness;
        let (leaf, siblings) = path.parts();
        Self {
            scalar: **secret.scalar(),
            leaf,
            siblings: *siblings,
            slot: *slot,
            gas_used: trace.gas_used,
            peak_pages: trace.peak_pages,
            host_calls: trace.host_calls,
            cpu_features: trace.cpu_features,
            isolation: trace.isolation,
            payload: trace.payload,
            checkpoints: trace.checkpoints.clone(),
            blind: trace.blind,
        }
    }

    /// The room is there before the first secret byte, so that growing leaves no copies behind.
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let room = FIXED_BYTES + CHECKPOINT_BYTES * self.checkpoints.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        minicbor::encode(self, &mut *bytes)
            .expect("a vector takes every write and our encoders raise no errors");
        debug_assert!(bytes.len() <= room, "a witness outgrew its room");
        bytes
    }

    fn witness(&self) -> Option<Witness> {
        Some(Witness {
            secret: IdentitySecret::from_scalar(&self.scalar).ok()?,
            path: TreePath::from_parts(self.leaf, self.siblings)?,
            trace: Trace {
                gas_used: self.gas_used,
                peak_pages: self.peak_pages,
                host_calls: self.host_calls,
                cpu_features: self.cpu_features,
                isolation: self.isolation,
                payload: self.payload,
                checkpoints: self.checkpoints.clone(),
                blind: self.blind,
            },
            slot: self.slot,
        })
    }
}

impl Witness {
    /// Longest secret bytes of a witness: room for 120 000 checkpoints. It bounds what a prover has
    /// to take in before it has checked anything.
    pub const MAX_SECRET_BYTES: usize = 8 << 20;

    /// The witness for a prover in another address space: **secret**. Whoever reads the bytes has the
    /// operator's secret. They wipe themselves; keep them out of files, logs and the network.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] beyond [`Self::MAX_SECRET_BYTES`].
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
        let bytes = Fields::of(self).to_bytes();
        match bytes.len() {
            len if len > Self::MAX_SECRET_BYTES => Err(too_long(len, Self::MAX_SECRET_BYTES)),
            _ => Ok(bytes),
        }
    }

    /// Reads bytes of [`Self::to_secret_bytes`] back, and takes no other encoding. Whether it is a
    /// witness of some statement is for [`Self::check`] to say.
    ///
    /// # Errors
    /// [`DecodeError`]: the fault of whoever made the bytes.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > Self::MAX_SECRET_BYTES {
            return Err(too_long(bytes.len(), Self::MAX_SECRET_BYTES));
        }
        let fields: Fields = minicbor::decode(bytes).map_err(|_| DecodeError::Malformed)?;
        if **fields.to_bytes() != *bytes {
            return Err(DecodeError::NotCanonical);
        }
        fields.witness().ok_or(DecodeError::Malformed)
    }
}

const fn too_long(len: usize, limit: usize) -> DecodeError {
    DecodeError::TooLong { len, limit }
}
