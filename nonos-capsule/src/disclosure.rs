//! Fields of a manifest that only some may see.
//!
//! The manifest carries a Merkle root over salted leaves and the rule for each field; the author
//! keeps the fields and one seed. An opening shows one field and proves that it was signed;
//! the others stay hidden, and so does how many leaves are filler. Whoever received an opening can
//! pass it on: it proves itself to anybody.
//!
//! `leaf = SHA3-256(0x00 || H(leaf, index, salt, name, value))`, `node = SHA3-256(0x01 || l || r)`,
//! over a power of two of leaves.

mod seal;

use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Digest, SharedBox, Timestamp};
use rs_merkle::{Hasher, MerkleProof, MerkleTree};
use serde::{Deserialize, Serialize};
use sha3::{Digest as _, Sha3_256};

use crate::domains::{HIDDEN_LEAF, HIDDEN_SALT};

/// Who may see a hidden field, and when. Signed with the manifest, so every holder of an
/// opening knows what its author wants; it is a rule for honest holders, not a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Release {
    /// Nobody, unless the author shows it.
    #[default]
    #[n(0)]
    Author,
    /// Everybody.
    #[n(1)]
    Public,
    /// The holders of these X25519 keys, encrypted to each.
    #[n(2)]
    Peers(#[n(0)] Vec<Recipient>),
    /// Everybody, from this second on.
    #[n(3)]
    After(#[n(0)] Timestamp),
}

/// The X25519 key of somebody who may see a field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Recipient(#[n(0)] Digest);

impl Recipient {
    /// Wraps a public key.
    #[must_use]
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(Digest::from_bytes(key))
    }

    /// The public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// What a manifest says about its hidden fields.
///
/// Wire form: `[root, leaves_log2, [release, ...]]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
pub struct Hidden {
    #[n(0)]
    root: Digest,
    #[n(1)]
    leaves_log2: u8,
    /// The rule of each field by its index; fields beyond are the author's alone.
    #[n(2)]
    releases: Vec<Release>,
}

/// Why a holder must not show a field now. The asker's fault, but for [`Self::Index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// No such field.
    #[error("there is no hidden field {0}")]
    Index(u8),
    /// Only the author shows it.
    #[error("the field is its author's to show")]
    Author,
    /// Only some may see it, and it must travel encrypted.
    #[error("the field is not for this peer")]
    Peer,
    /// Not yet.
    #[error("the field is hidden until {0}")]
    NotBefore(Timestamp),
}

/// An opening that proves nothing. The fault of whoever showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("opening does not fit the manifest")]
pub struct FieldOpeningError;

impl Hidden {
    /// Most leaves are 2 to this power.
    pub const MAX_LEAVES_LOG2: u8 = 6;

    /// Most peers over all fields; keeps a manifest small.
    pub const MAX_PEERS: usize = 64;

    pub(crate) fn is_well_formed(&self) -> bool {
        let peers = self.releases.iter().map(|release| match release {
            Release::Peers(peers) => peers.len(),
            _ => 0,
        });
        self.leaves_log2 <= Self::MAX_LEAVES_LOG2
            && self.releases.len() <= 1 << self.leaves_log2
            && peers.sum::<usize>() <= Self::MAX_PEERS
    }

    /// The rules by index; fields beyond are the author's alone.
    #[must_use]
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// The rule of a field.
    #[must_use]
    pub fn release(&self, index: u8) -> Option<&Release> {
        let is_field = usize::from(index) < 1 << self.leaves_log2;
        is_field.then(|| self.releases.get(usize::from(index)).unwrap_or(&Release::Author))
    }

    /// Whether a field may be shown at `now`: to everybody, or to the one peer of this key.
    ///
    /// # Errors
    /// [`ReleaseError`] names the rule against it.
    pub fn check_release(
        &self,
        index: u8,
        to: Option<&Recipient>,
        now: Timestamp,
    ) -> Result<(), ReleaseError> {
        match self.release(index).ok_or(ReleaseError::Index(index))? {
            Release::Public => Ok(()),
            Release::After(when) if now >= *when => Ok(()),
            Release::After(when) => Err(ReleaseError::NotBefore(*when)),
            Release::Peers(peers) if to.is_some_and(|to| peers.contains(to)) => Ok(()),
            Release::Peers(_) => Err(ReleaseError::Peer),
            Release::Author => Err(ReleaseError::Author),
        }
    }
}

/// One hidden field.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its name, 1 to 64 bytes.
    #[n(0)]
    pub name: String,
    /// Its value, at most 1 024 bytes.
    #[n(1)]
    pub value: String,
    /// Who may see it.
    #[n(2)]
    #[serde(default)]
    pub release: Release,
}

/// The hidden fields of a capsule with the seed of their salts: the author's secret.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct HiddenFields {
    #[cbor(n(0), with = "minicbor::bytes")]
    seed: [u8; 32],
    #[n(1)]
    fields: Vec<Field>,
}

impl Wire for HiddenFields {
    const MAX_BYTES: usize = 80 * 1_024;
}

/// Fields that cannot be committed to. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldsError {
    /// No field, or more than there are leaves.
    #[error("{0} hidden fields are not within 1 and {max}", max = 1 << Hidden::MAX_LEAVES_LOG2)]
    Count(usize),
    /// A name or value too long or empty.
    #[error("hidden field {0:?} has a name or value of the wrong length")]
    Length(String),
    /// More peers than a manifest holds.
    #[error("{0} peers exceed the limit of {max}", max = Hidden::MAX_PEERS)]
    Peers(usize),
    /// More peers for one field than one box is sealed to.
    #[error("hidden field {0:?} has more than {max} peers", max = SharedBox::MAX_RECIPIENTS)]
    FieldPeers(String),
}

impl HiddenFields {
    /// Fields with a fresh random seed. Whoever knows the seed and guesses a value can confirm
    /// the guess.
    ///
    /// # Errors
    /// [`FieldsError`] if they do not fit.
    pub fn new(seed: [u8; 32], fields: Vec<Field>) -> Result<Self, FieldsError> {
        let this = Self { seed, fields };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<(), FieldsError> {
        if !(1..=1 << Hidden::MAX_LEAVES_LOG2).contains(&self.fields.len()) {
            return Err(FieldsError::Count(self.fields.len()));
        }
        for field in &self.fields {
            if !(1..=64).contains(&field.name.len()) || field.value.len() > 1_024 {
                return Err(FieldsError::Length(field.name.clone()));
            }
        }
        let peers = |field: &Field| if let Release::Peers(peers) = &field.release { peers.len() } else { 0 };
        let sum = self.fields.iter().map(peers).sum();
        if sum > Hidden::MAX_PEERS {
            return Err(FieldsError::Peers(sum));
        }
        match self.fields.iter().find(|field| peers(field) > SharedBox::MAX_RECIPIENTS) {
            Some(field) => Err(FieldsError::FieldPeers(field.name.clone())),
            None => Ok(()),
        }
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The commitment that goes into the manifest.
    ///
    /// # Errors
    /// [`FieldsError`] if decoded fields break a rule.
    pub fn commit(&self) -> Result<Hidden, FieldsError> {
        self.check()?;
        let root = Digest::from_bytes(self.tree().root().unwrap_or([0; 32]));
        let releases = self.fields.iter().map(|field| field.release.clone()).collect();
        Ok(Hidden { root, leaves_log2: Hidden::MAX_LEAVES_LOG2, releases })
    }

    /// The opening of a field, or nothing where there is none.
    #[must_use]
    pub fn open(&self, index: u8) -> Option<FieldOpening> {
        let field = self.fields.get(usize::from(index))?;
        let path = self.tree().proof(&[usize::from(index)]);
        Some(FieldOpening {
            index,
            name: field.name.clone(),
            value: field.value.clone(),
            salt: self.salt(index),
            path: path.proof_hashes().iter().copied().map(Digest::from_bytes).collect(),
        })
    }

    fn salt(&self, index: u8) -> Digest {
        Digest::of(HIDDEN_SALT, &[&self.seed, &[index]])
    }

    /// Every place has a leaf; the ones without a field are as random as the others.
    fn tree(&self) -> MerkleTree<FieldHasher> {
        let leaves: Vec<_> = (0..1u8 << Hidden::MAX_LEAVES_LOG2)
            .map(|index| match self.fields.get(usize::from(index)) {
                Some(field) => leaf(index, &self.salt(index), &field.name, &field.value),
                None => leaf(index, &self.salt(index), "", ""),
            })
            .collect();
        MerkleTree::from_leaves(&leaves)
    }
}

impl fmt::Debug for HiddenFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HiddenFields({} fields)", self.fields.len())
    }
}

/// One field with the proof that the author of a manifest committed to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct FieldOpening {
    /// Its place.
    #[n(0)]
    pub index: u8,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// Its value.
    #[n(2)]
    pub value: String,
    #[n(3)]
    salt: Digest,
    /// The siblings, from the leaf up.
    #[n(4)]
    path: Vec<Digest>,
}

impl Wire for FieldOpening {
    const MAX_BYTES: usize = 1_536;
}

impl FieldOpening {
    /// Checks that a manifest with this commitment has this field at this place.
    ///
    /// # Errors
    /// [`FieldOpeningError`] if it has not.
    pub fn check(&self, hidden: &Hidden) -> Result<(), FieldOpeningError> {
        // Count and length of the path come from the signed manifest, never from the opening.
        if !hidden.is_well_formed()
            || usize::from(self.index) >= 1 << hidden.leaves_log2
            || self.path.len() != usize::from(hidden.leaves_log2)
            || self.name.is_empty()
        {
            return Err(FieldOpeningError);
        }
        let path = MerkleProof::<FieldHasher>::new(self.path.iter().map(|node| *node.as_bytes()).collect());
        let leaf = leaf(self.index, &self.salt, &self.name, &self.value);
        let leaves = 1 << hidden.leaves_log2;
        if path.verify(*hidden.root.as_bytes(), &[usize::from(self.index)], &[leaf], leaves) {
            Ok(())
        } else {
            Err(FieldOpeningError)
        }
    }
}

#[derive(Clone)]
struct FieldHasher;

impl Hasher for FieldHasher {
    type Hash = [u8; 32];

    /// Only ever called by `concat_and_hash`, with two nodes.
    fn hash(nodes: &[u8]) -> [u8; 32] {
        let mut hash = Sha3_256::new();
        hash.update([1]);
        hash.update(nodes);
        hash.finalize().into()
    }
}

fn leaf(index: u8, salt: &Digest, name: &str, value: &str) -> [u8; 32] {
    let content = Digest::of(HIDDEN_LEAF, &[&[index], salt.as_bytes(), name.as_bytes(), value.as_bytes()]);
    let mut hash = Sha3_256::new();
    hash.update([0]);
    hash.update(content.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use nonos_identity::{StaticSecret, wire};

    use super::*;

    const THEN: Timestamp = Timestamp::from_secs(1_000);

    fn secret(byte: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[byte; 32])
    }

    fn peer() -> Recipient {
        Recipient::from_bytes(secret(1).public())
    }

    fn fields() -> HiddenFields {
        let field = |name: &str, release| Field { name: name.to_owned(), value: "x".to_owned(), release };
        let fields = vec![
            field("customer", Release::Peers(vec![peer()])),
            field("licence", Release::Public),
            field("price", Release::After(THEN)),
            field("note", Release::Author),
        ];
        HiddenFields::new([7; 32], fields).expect("within the rules")
    }

    #[test]
    fn every_field_opens_alone() {
        let (fields, hidden) = (fields(), fields().commit().expect("valid"));
        for index in 0..4 {
            let opening = fields.open(index).expect("field");
            let opening: FieldOpening = wire::from_bytes(&wire::to_bytes(&opening)).expect("canonical");
            assert_eq!(opening.check(&hidden), Ok(()));
            assert_eq!(opening.name, fields.fields()[usize::from(index)].name);
        }
        assert_eq!(fields.open(4), None);
    }

    #[test]
    fn no_part_of_an_opening_can_be_changed() {
        let (fields, hidden) = (fields(), fields().commit().expect("valid"));
        let opening = fields.open(1).expect("field");
        let mut longer = opening.clone();
        longer.path.push(opening.salt);
        let mut shorter = opening.clone();
        shorter.path.pop();
        let mut other = opening.clone();
        other.path[3] = opening.salt;
        for wrong in [
            FieldOpening { index: 2, ..opening.clone() },
            FieldOpening { index: 64, ..opening.clone() },
            FieldOpening { name: "licensee".to_owned(), ..opening.clone() },
            FieldOpening { value: "y".to_owned(), ..opening.clone() },
            FieldOpening { value: String::new(), name: "licencex".to_owned(), ..opening.clone() },
            FieldOpening { salt: fields.salt(2), ..opening.clone() },
            longer,
            shorter,
            other,
        ] {
            assert_eq!(wrong.check(&hidden), Err(FieldOpeningError), "{wrong:?}");
        }
        let elsewhere = HiddenFields { seed: [8; 32], ..fields }.commit().expect("valid");
        assert_eq!(opening.check(&elsewhere), Err(FieldOpeningError));
    }

    /// Filler leaves are salted like fields, but they are no fields.
    #[test]
    fn filler_does_not_open() {
        let (fields, hidden) = (fields(), fields().commit().expect("valid"));
        let path = fields.tree().proof(&[9]);
        let filler = FieldOpening {
            index: 9,
            name: String::new(),
            value: String::new(),
            salt: fields.salt(9),
            path: path.proof_hashes().iter().copied().map(Digest::from_bytes).collect(),
        };
        assert_eq!(filler.check(&hidden), Err(FieldOpeningError));
    }

    #[test]
    fn the_rule_says_who_and_when() {
        let hidden = fields().commit().expect("valid");
        let stranger = Recipient::from_bytes(secret(2).public());
        let before = Timestamp::from_secs(999);
        assert_eq!(hidden.check_release(0, Some(&peer()), before), Ok(()));
        assert_eq!(hidden.check_release(0, Some(&stranger), before), Err(ReleaseError::Peer));
        assert_eq!(hidden.check_release(0, None, before), Err(ReleaseError::Peer));
        assert_eq!(hidden.check_release(1, None, before), Ok(()));
        assert_eq!(hidden.check_release(2, None, before), Err(ReleaseError::NotBefore(THEN)));
        assert_eq!(hidden.check_release(2, None, THEN), Ok(()));
        assert_eq!(hidden.check_release(3, Some(&peer()), THEN), Err(ReleaseError::Author));
        assert_eq!(hidden.check_release(63, None, THEN), Err(ReleaseError::Author));
        assert_eq!(hidden.check_release(64, None, THEN), Err(ReleaseError::Index(64)));
    }

    #[test]
    fn fields_keep_their_limits() {
        let field =
            |len: usize| Field { name: "n".repeat(len), value: String::new(), release: Release::Public };
        let new = |fields| HiddenFields::new([1; 32], fields).map(|_| ());
        assert_eq!(new(vec![]), Err(FieldsError::Count(0)));
        assert_eq!(new(vec![field(1); 65]), Err(FieldsError::Count(65)));
        assert_eq!(new(vec![field(0)]), Err(FieldsError::Length(String::new())));
        let crowd = Field { release: Release::Peers(vec![peer(); 65]), ..field(1) };
        assert_eq!(new(vec![crowd]), Err(FieldsError::Peers(65)));
        let crowd = Field { release: Release::Peers(vec![peer(); 33]), ..field(1) };
        assert_eq!(new(vec![crowd]), Err(FieldsError::FieldPeers("n".to_owned())));
        let largest = Field { release: Release::Peers(vec![peer(); 1]), ..field(64) };
        let hidden = HiddenFields::new([1; 32], vec![largest; 64]).and_then(|fields| fields.commit());
        assert!(minicbor::to_vec(hidden.expect("valid")).expect("encodes").len() < 3_000);
    }
}
