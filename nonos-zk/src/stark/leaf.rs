use nonos_identity::Digest;

use super::air::Hash;
use super::config;
use super::field::{Bounds, Cell, FieldAir};
use super::trace::{self, Absorbed};
use super::{MAX_SEGMENT_PROOF_BYTES, Mode, StarkError, VERSION};
use crate::domains;

const HASH: Hash = Hash::Sha3_256;

/// Bytes of a salt.
const SALT_BYTES: usize = 32;

/// What is public about a committed field: the bytes around its salt and its value.
///
/// The preimage of the digest is `before || salt || between || value || after`, with 32 bytes of salt
/// and a value of `digits` ASCII digits. For a hidden field of a capsule's manifest the digest is that
/// inside its leaf, `before` ends with the length of the salt, and `between` holds the field's name and the
/// length of the value (each length as eight little-endian bytes). So the number of digits is public:
/// an author who wants to hide the magnitude writes leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLayout {
    /// What stands before the salt.
    pub before: Vec<u8>,
    /// What stands between salt and value.
    pub between: Vec<u8>,
    /// Digits of the value, 1 to [`FieldStatement::MAX_DIGITS`].
    pub digits: u8,
    /// What stands behind the value.
    pub after: Vec<u8>,
}

/// What a proof says about a hidden value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldPredicate {
    /// It is from `min` to `max`, both included.
    Range {
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// It is one of these, 1 to [`FieldStatement::MAX_MEMBERS`] of them.
    OneOf(Vec<u64>),
}

/// The statement: "I know a salt and a value such that the preimage of this layout has this SHA3-256
/// digest, and the predicate holds of the value".
///
/// It says nothing about a manifest: whoever verifies takes the digest from an opened path to the
/// signed root, and the layout from the format of the leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldStatement {
    /// SHA3-256 of the preimage.
    pub digest: Digest,
    /// The form of the preimage.
    pub layout: FieldLayout,
    /// What holds of the value.
    pub predicate: FieldPredicate,
}

/// A proof of a [`FieldStatement`]. It tells nothing else about salt and value. The bytes are no id.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldProof(Vec<u8>);

impl FieldProof {
    /// Longest proof, in bytes: what a peer can make us hold and decode.
    pub const MAX_BYTES: usize = 1 + MAX_SEGMENT_PROOF_BYTES;

    /// Wraps the bytes of a proof; [`verify_field`] reads them.
    ///
    /// # Errors
    /// [`StarkError::ProofTooLong`], or [`StarkError::Malformed`] for another version.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, StarkError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(StarkError::ProofTooLong { len: bytes.len(), limit: Self::MAX_BYTES });
        }
        if bytes.first() == Some(&VERSION) { Ok(Self(bytes)) } else { Err(StarkError::Malformed) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Debug for FieldProof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FieldProof({} bytes)", self.0.len())
    }
}

impl FieldStatement {
    /// Most digits of a value: those of the greatest `u64`.
    pub const MAX_DIGITS: u8 = 20;

    /// Most members of a set; each is a column of the trace.
    pub const MAX_MEMBERS: usize = 64;

    /// Longest preimage, in bytes; bounds rows and columns of the trace.
    pub const MAX_PREIMAGE_BYTES: usize = 8 * HASH.rate() - 1;

    fn air(&self) -> Result<FieldAir, StarkError> {
        let FieldLayout { before, between, digits, after } = &self.layout;
        if !(1..=Self::MAX_DIGITS).contains(digits) {
            return Err(StarkError::Statement("number of digits"));
        }
        let (before, between, after) = (known(before), known(between), known(after));
        let salt = core::iter::repeat_n(Cell::Salt, SALT_BYTES);
        let digits = usize::from(*digits);
        let value = (0..digits).map(Cell::Digit);
        // One byte more than can be, so that the sum of lengths does not overflow.
        let cells = before.chain(salt).chain(between).chain(value).chain(after);
        let mut cells: Vec<_> = cells.take(Self::MAX_PREIMAGE_BYTES + 1).collect();
        if cells.len() > Self::MAX_PREIMAGE_BYTES {
            return Err(StarkError::Statement("preimage too long"));
        }
        let padding = HASH.rate() - cells.len() % HASH.rate();
        cells.extend(trace::padding(padding).into_iter().map(Cell::Known));
        Ok(FieldAir { cells, digits, bounds: self.bounds(digits)? })
    }

    fn bounds(&self, digits: usize) -> Result<Bounds, StarkError> {
        match &self.predicate {
            FieldPredicate::Range { min, max } => {
                let min = decimal(*min, digits).filter(|_| min <= max);
                let max = decimal(*max, digits).unwrap_or_else(|| vec![9; digits]);
                Ok(Bounds::Range { min: min.ok_or(StarkError::Statement("empty range"))?, max })
            }
            FieldPredicate::OneOf(members) => {
                if !(1..=Self::MAX_MEMBERS).contains(&members.len()) {
                    return Err(StarkError::Statement("number of members"));
                }
                let members = members.iter().map(|member| decimal(*member, digits));
                let members = members.collect::<Option<_>>();
                Ok(Bounds::OneOf(members.ok_or(StarkError::Statement("member with too many digits"))?))
            }
        }
    }

    fn transcript(&self) -> Digest {
        let FieldLayout { before, between, digits, after } = &self.layout;
        let (kind, numbers) = match &self.predicate {
            FieldPredicate::Range { min, max } => (0, vec![*min, *max]),
            FieldPredicate::OneOf(members) => (1, members.clone()),
        };
        let numbers: Vec<_> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Digest::of(
            domains::STARK_TRANSCRIPT,
            &[b"field", &[VERSION, *digits, kind], self.digest.as_bytes(), before, between, after, &numbers],
        )
    }

    fn preimage(&self, salt: &[u8; SALT_BYTES], value: &[u8]) -> Vec<u8> {
        let digits: Vec<_> = value.iter().map(|digit| digit | b'0').collect();
        [&self.layout.before, salt.as_slice(), &self.layout.between, &digits, &self.layout.after].concat()
    }
}

fn known(bytes: &[u8]) -> impl Iterator<Item = Cell> {
    bytes.iter().map(|byte| Cell::Known(*byte))
}

/// The decimal digits of a number, or nothing if there are more of them.
fn decimal(mut number: u64, digits: usize) -> Option<Vec<u8>> {
    let mut decimal = vec![0; digits];
    for digit in decimal.iter_mut().rev() {
        *digit = u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    (number == 0).then_some(decimal)
}

fn holds(bounds: &Bounds, value: &[u8]) -> bool {
    match bounds {
        // As many digits on both sides: their order is that of the numbers.
        Bounds::Range { min, max } => min.as_slice() <= value && value <= max.as_slice(),
        Bounds::OneOf(members) => members.iter().any(|member| member == value),
    }
}

/// Proves that a predicate holds of a committed value, and shows neither value nor salt.
///
/// `seed`: 32 fresh bytes of a secure generator, never used for another proof.
///
/// # Errors
/// [`StarkError::Statement`] beyond the limits, [`StarkError::Unsatisfied`] if salt and value have
/// another digest or the predicate does not hold, [`StarkError::Engine`] if Plonky3 fails.
pub fn prove_field(
    statement: &FieldStatement,
    salt: &[u8; SALT_BYTES],
    value: u64,
    seed: [u8; 32],
) -> Result<FieldProof, StarkError> {
    let air = statement.air()?;
    let value = decimal(value, air.digits).ok_or(StarkError::Unsatisfied)?;
    let preimage = statement.preimage(salt, &value);
    if Digest::of_bytes(&preimage) != statement.digest || !holds(&air.bounds, &value) {
        return Err(StarkError::Unsatisfied);
    }
    let absorbed = Absorbed::new(HASH, [0; 25], &trace::pad(HASH, &preimage));
    let rows = air.rows(&absorbed, &value, Mode::Hiding.min_rows());
    let config = config::hiding(&statement.transcript(), &seed);
    let proof = config::prove(&config, &air, rows, &absorbed.publics(&air.sponge()))?;
    let mut bytes = vec![VERSION];
    bytes.extend(proof);
    FieldProof::from_bytes(bytes)
}

/// Verifies that whoever made the proof knew salt and value as the statement says. Any bytes are
/// safe to pass.
///
/// # Errors
/// [`StarkError::Statement`] for a statement beyond the limits, [`StarkError::Malformed`] or
/// [`StarkError::Refused`] if the proof is for nothing, or for something else.
pub fn verify_field(statement: &FieldStatement, proof: &FieldProof) -> Result<(), StarkError> {
    let air = statement.air()?;
    let end = trace::digest_state(statement.digest.as_bytes());
    let publics = trace::publics(&air.sponge(), &[0; 25], &trace::limbs(&end), air.blocks());
    let rows = trace::height(air.blocks(), Mode::Hiding.min_rows());
    let config = config::hiding(&statement.transcript(), &[0; 32]);
    config::verify(&config, &air, rows, &publics, proof.0.get(1..).ok_or(StarkError::Malformed)?)
}
