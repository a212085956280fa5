use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Epoch, WideDigest};
use serde::{Deserialize, Deserializer, Serialize};

use crate::dependency::is_plain_name;
use crate::disclosure::{FieldOpening, FieldOpeningError, Hidden};
use crate::signature::Thresholds;

/// What a payload imports and exports.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Abi {
    /// A command over the deterministic subset of WASI preview 1: input on standard input,
    /// result on standard output.
    #[default]
    #[n(0)]
    WasiP1,
}

/// What a capsule is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A module with an entry that runs once per invocation.
    #[default]
    #[n(0)]
    Command,
    /// A module whose exported functions other capsules call; it imports no host calls.
    #[n(1)]
    Library,
    /// A plain tar archive whose files other capsules read under a mount point.
    #[n(2)]
    Image,
}

/// What a manifest says of the payload's digest: SHA3-512 of the payload bytes, with no domain.
///
/// A receipt names the payload by the hash of this digest in both cases. Whoever has the payload, or
/// guesses it, recognises it by either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[cbor(flat)]
#[serde(rename_all = "snake_case")]
pub enum PayloadDigest {
    /// The digest.
    #[n(0)]
    Digest(#[n(0)] WideDigest),
    /// SHA3-512 of the digest, which stays with those who have the payload.
    #[n(1)]
    Commit(#[n(0)] WideDigest),
}

impl PayloadDigest {
    /// SHA3-512 of the digest: what receipts name the payload by.
    #[must_use]
    pub fn commit(&self) -> WideDigest {
        match self {
            Self::Digest(digest) => WideDigest::of_bytes(digest.as_ref()),
            Self::Commit(commit) => *commit,
        }
    }

    /// Whether the manifest keeps the digest to itself.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        matches!(self, Self::Commit(_))
    }

    /// Of these bytes, as openly as this one.
    #[must_use]
    pub fn like(&self, payload: &[u8]) -> Self {
        let digest = Self::Digest(WideDigest::of_bytes(payload));
        if self.is_hidden() { Self::Commit(digest.commit()) } else { digest }
    }

    /// What stands in the table of sections.
    pub(crate) const fn shown(&self) -> WideDigest {
        match self {
            Self::Digest(shown) | Self::Commit(shown) => *shown,
        }
    }
}

/// Digest and size of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
pub struct PayloadInfo {
    /// The digest, or what stands for it.
    #[n(0)]
    #[serde(flatten)]
    pub digest: PayloadDigest,
    /// Length in bytes.
    #[n(1)]
    pub size_bytes: u64,
}

impl PayloadInfo {
    /// Digest and size of these bytes, the digest in the clear.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self::default().like(payload)
    }

    /// The same with the digest hidden behind its hash; nothing brings it back.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { digest: PayloadDigest::Commit(self.digest.commit()), ..self }
    }

    /// Of these bytes, with the digest as openly as in this one.
    #[must_use]
    pub fn like(&self, payload: &[u8]) -> Self {
        Self { digest: self.digest.like(payload), size_bytes: payload.len() as u64 }
    }
}

impl Default for PayloadInfo {
    /// Of the empty payload, the digest in the clear; packing replaces it.
    fn default() -> Self {
        Self { digest: PayloadDigest::Digest(WideDigest::of_bytes(&[])), size_bytes: 0 }
    }
}

/// What a capsule is. Written by its author in TOML; `payload` is filled in by packing.
///
/// Wire form: an array in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Lower-case letters, digits, `-`, `_` and `.`; 1 to 64 bytes.
    #[n(0)]
    pub name: String,
    /// The author's version, 1 to 32 printable ASCII bytes.
    #[n(1)]
    pub version: String,
    /// The exported function that runs, without parameters or results; 1 to 128 bytes, and
    /// empty where [`Kind`] is no command.
    #[n(2)]
    #[serde(default = "default_entry")]
    pub entry: String,
    /// What the payload expects around it.
    #[n(3)]
    #[serde(default)]
    pub abi: Abi,
    /// Digest and size of the payload. Packing fills them in; an author says in TOML whether the digest
    /// is to be seen: `hide_payload_digest = true`.
    #[n(4)]
    #[serde(default, rename(deserialize = "hide_payload_digest"), deserialize_with = "payload_to_pack")]
    pub payload: PayloadInfo,
    /// Version of the metering transformation the author tested with.
    #[n(5)]
    #[serde(default = "default_instrument_version")]
    pub instrument_version: u16,
    /// The gas schedule the policy's limits are meant in.
    #[n(6)]
    #[serde(default = "default_gas_schedule")]
    pub gas_schedule: u16,
    /// When it was made.
    #[n(7)]
    #[serde(default)]
    pub created: Epoch,
    /// Free text for people, at most 1 024 bytes.
    #[n(8)]
    #[serde(default)]
    pub author_note: String,
    /// What it is for.
    #[n(9)]
    #[serde(default)]
    pub kind: Kind,
    /// How many signatures of each role its author asks verifiers to insist on.
    #[n(10)]
    #[serde(default)]
    pub thresholds: Thresholds,
    /// Commitment to fields that only some may see.
    #[n(11)]
    #[serde(default, skip_deserializing)]
    pub hidden: Option<Hidden>,
}

/// An empty payload whose digest is as open as the author says.
fn payload_to_pack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PayloadInfo, D::Error> {
    let open = PayloadInfo::default();
    Ok(if bool::deserialize(deserializer)? { open.hidden() } else { open })
}

fn default_entry() -> String {
    "_start".to_owned()
}

const fn default_instrument_version() -> u16 {
    crate::instrument::VERSION
}

const fn default_gas_schedule() -> u16 {
    crate::instrument::GAS_SCHEDULE
}

/// A manifest that breaks its rules. Its author's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A text field of the wrong length or alphabet.
    #[error("manifest field {0} is malformed")]
    Field(&'static str),
    /// Metered for another version of the transformation.
    #[error("instrument version {0} is not supported")]
    InstrumentVersion(u16),
    /// Priced by an unknown schedule.
    #[error("gas schedule {0} is not supported")]
    GasSchedule(u16),
}

impl Manifest {
    /// A manifest with every other field at its default.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            entry: default_entry(),
            abi: Abi::default(),
            payload: PayloadInfo::default(),
            instrument_version: default_instrument_version(),
            gas_schedule: default_gas_schedule(),
            created: Epoch::default(),
            author_note: String::new(),
            kind: Kind::default(),
            thresholds: Thresholds::default(),
            hidden: None,
        }
    }

    /// A manifest of a capsule that others depend on: a library or an image, without entry.
    #[must_use]
    pub fn dependency(kind: Kind, name: impl Into<String>, version: impl Into<String>) -> Self {
        let entry = if kind == Kind::Command { default_entry() } else { String::new() };
        Self { kind, entry, ..Self::new(name, version) }
    }

    /// Name of the hidden field whose opening lets its holder have a payload with a hidden digest.
    pub const PERMIT_FIELD: &str = "payload";

    /// Checks that whoever shows this opening may have the payload although its digest is hidden.
    ///
    /// # Errors
    /// [`FieldOpeningError`] if it opens no field [`Self::PERMIT_FIELD`] of this manifest.
    pub fn check_permit(&self, opening: &FieldOpening) -> Result<(), FieldOpeningError> {
        let hidden = self.hidden.as_ref().ok_or(FieldOpeningError)?;
        if opening.name == Self::PERMIT_FIELD { opening.check(hidden) } else { Err(FieldOpeningError) }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ManifestError`] names the first field that breaks its rule.
    pub fn check(&self) -> Result<(), ManifestError> {
        if !is_plain_name(&self.name) {
            return Err(ManifestError::Field("name"));
        }
        if !(1..=32).contains(&self.version.len()) || !self.version.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ManifestError::Field("version"));
        }
        let entry_bytes = if self.kind == Kind::Command { 1..=128 } else { 0..=0 };
        if !entry_bytes.contains(&self.entry.len()) || self.entry.starts_with(crate::instrument::RESERVED) {
            return Err(ManifestError::Field("entry"));
        }
        if self.hidden.as_ref().is_some_and(|hidden| !hidden.is_well_formed()) {
            return Err(ManifestError::Field("hidden"));
        }
        if self.author_note.len() > 1_024 {
            return Err(ManifestError::Field("author_note"));
        }
        if self.instrument_version != crate::instrument::VERSION {
            return Err(ManifestError::InstrumentVersion(self.instrument_version));
        }
        if self.gas_schedule != crate::instrument::GAS_SCHEDULE {
            return Err(ManifestError::GasSchedule(self.gas_schedule));
        }
        Ok(())
    }
}

impl Wire for Manifest {
    const MAX_BYTES: usize = 5 * 1_024;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_needs_a_name_and_a_version() {
        let manifest: Manifest = toml::from_str("name = \"echo\"\nversion = \"1.0.0\"").unwrap();
        assert_eq!(manifest, Manifest::new("echo", "1.0.0"));
        assert!(toml::from_str::<Manifest>("name = \"echo\"").is_err());
    }

    #[test]
    fn an_author_may_hide_the_digest() {
        let toml = "name = \"echo\"\nversion = \"1.0.0\"\nhide_payload_digest = ";
        let digest = |value: &str| {
            toml::from_str::<Manifest>(&format!("{toml}{value}")).map(|manifest| manifest.payload.digest)
        };
        assert!(digest("true").unwrap().is_hidden());
        assert!(!digest("false").unwrap().is_hidden());
        assert!(digest("\"yes\"").is_err());
    }

    #[test]
    fn a_hidden_digest_is_hidden_once() {
        let hidden = PayloadInfo::of(b"module").hidden();
        assert_eq!(hidden, hidden.hidden());
        assert_eq!(hidden, PayloadInfo::default().hidden().like(b"module"));
        assert_eq!(hidden.digest.commit(), PayloadInfo::of(b"module").digest.commit());
    }

    #[test]
    fn names_are_plain() {
        for name in ["", "Echo", "e/cho", "../echo", &"x".repeat(65)] {
            assert_eq!(Manifest::new(name, "1").check(), Err(ManifestError::Field("name")), "{name}");
        }
        let reserved = Manifest { entry: "__nonos_gas".to_owned(), ..Manifest::new("echo", "1") };
        assert_eq!(reserved.check(), Err(ManifestError::Field("entry")));
    }

    #[test]
    fn only_commands_have_an_entry() {
        let library = Manifest::dependency(Kind::Library, "zlib", "1");
        assert_eq!(library.check(), Ok(()));
        let wrong = Manifest { entry: default_entry(), ..library };
        assert_eq!(wrong.check(), Err(ManifestError::Field("entry")));
        let none = Manifest { entry: String::new(), ..Manifest::new("echo", "1") };
        assert_eq!(none.check(), Err(ManifestError::Field("entry")));
    }
}
