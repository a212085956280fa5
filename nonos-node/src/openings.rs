//! Openings of hidden fields: what a node keeps to show, the form in which they travel, and what
//! a reader takes for true.
//!
//! The rule for a field is in the signed manifest. A field for everybody is kept as it is, a field
//! for some is sealed to them before it is kept, and a field of its author alone is not kept: what
//! a thief of the directory reads is what others may read anyway, now or later.

mod reading;

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use nonos_capsule::{CapsuleId, FieldOpening, FieldsError, Hidden, HiddenFields, Recipient, Release};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{SealError, SharedBox, StaticSecret, Timestamp};

use crate::{clock, files};

pub use self::reading::{ReadError, Reading, open};

/// Directory of the openings in a data directory.
pub const DIRECTORY: &str = "openings";

/// An opening as it is kept, carried and sent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Shown {
    /// For everybody.
    #[n(0)]
    Plain(#[n(0)] FieldOpening),
    /// For the holders of the keys that it is sealed to; anybody may carry it.
    #[n(1)]
    Sealed(#[n(0)] SharedBox),
}

/// An opening in a file of its own, to be handed over by any means.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OpeningFile {
    /// The capsule.
    #[n(0)]
    pub capsule: CapsuleId,
    /// Place of the field.
    #[n(1)]
    pub field: u8,
    /// The opening.
    #[n(2)]
    pub shown: Shown,
}

impl Wire for OpeningFile {
    /// A sealed opening for as many as one box may have.
    const MAX_BYTES: usize = 6 * 1024;
}

/// A field that a node shows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// Its place.
    #[n(0)]
    pub field: u8,
    /// The first second at which it is shown.
    #[n(1)]
    pub from: Timestamp,
    /// The opening.
    #[n(2)]
    pub shown: Shown,
}

/// What a node shows of one capsule: a file of its data directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Openings {
    /// The capsule.
    #[n(0)]
    pub capsule: CapsuleId,
    /// Its fields, ascending by place.
    #[n(1)]
    pub fields: Vec<Kept>,
}

impl Wire for Openings {
    /// As many of the largest openings as a manifest has fields.
    const MAX_BYTES: usize = (OpeningFile::MAX_BYTES << Hidden::MAX_LEAVES_LOG2) + 128;
}

/// Why openings are not kept. The caller's to mend, unless the medium failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningsError {
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file that does not hold what its name says.
    #[error("{path} does not hold {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// The manifest has no hidden fields.
    #[error("the capsule has no hidden fields")]
    NoFields,
    /// The fields are another capsule's: one packed before or after.
    #[error("the capsule does not commit to these hidden fields; they were packed with another one")]
    OtherFields,
    /// The opening is another capsule's, or was altered.
    #[error("the opening does not fit the capsule")]
    OtherOpening,
    /// The rule of the field does not let a node show it in this form.
    #[error("the manifest's rule for field {0} does not let a node show this opening")]
    Rule(u8),
    /// The fields break a rule.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// A peer's key is none.
    #[error("field {field} cannot be sealed to its peers")]
    Seal {
        /// The field.
        field: u8,
        /// Why.
        #[source]
        source: SealError,
    },
}

impl Openings {
    /// What the rules of a manifest let a node show of its fields, now or later.
    ///
    /// # Errors
    /// [`OpeningsError::OtherFields`] if the manifest does not commit to them.
    pub fn of(capsule: CapsuleId, hidden: &Hidden, fields: &HiddenFields) -> Result<Self, OpeningsError> {
        if fields.commit()? != *hidden {
            return Err(OpeningsError::OtherFields);
        }
        let mut kept = Vec::new();
        for (field, rule) in (0..=u8::MAX).zip(hidden.releases()) {
            let Some(opening) = fields.open(field) else { continue };
            let (from, shown) = match rule {
                Release::Public => (Timestamp::from_secs(0), Shown::Plain(opening)),
                Release::After(when) => (*when, Shown::Plain(opening)),
                Release::Peers(peers) if !peers.is_empty() => {
                    (Timestamp::from_secs(0), seal(&opening, &capsule, peers)?)
                }
                _ => continue,
            };
            kept.push(Kept { field, from, shown });
        }
        Ok(Self { capsule, fields: kept })
    }

    /// Takes in an opening that somebody else handed over. What is sealed cannot be checked by who
    /// carries it.
    ///
    /// # Errors
    /// [`OpeningsError::OtherOpening`] if a plain opening does not fit the manifest,
    /// [`OpeningsError::Rule`] if the field is its author's to show.
    pub fn insert(&mut self, hidden: &Hidden, file: OpeningFile) -> Result<(), OpeningsError> {
        let OpeningFile { capsule, field, shown } = file;
        if capsule != self.capsule {
            return Err(OpeningsError::OtherOpening);
        }
        let from = match (&shown, hidden.release(field)) {
            (Shown::Plain(_), Some(Release::Public)) | (Shown::Sealed(_), Some(Release::Peers(_))) => {
                Timestamp::from_secs(0)
            }
            (Shown::Plain(_), Some(Release::After(when))) => *when,
            _ => return Err(OpeningsError::Rule(field)),
        };
        if let Shown::Plain(opening) = &shown
            && (opening.index != field || opening.check(hidden).is_err())
        {
            return Err(OpeningsError::OtherOpening);
        }
        self.fields.retain(|kept| kept.field != field);
        self.fields.push(Kept { field, from, shown });
        self.fields.sort_by_key(|kept| kept.field);
        Ok(())
    }

    /// The opening of a field, if its time has come.
    #[must_use]
    pub fn shown(&self, field: u8, now: Timestamp) -> Option<&Shown> {
        let kept = self.fields.iter().find(|kept| kept.field == field && kept.from <= now)?;
        Some(&kept.shown)
    }

    /// Reads what a data directory keeps of a capsule.
    ///
    /// # Errors
    /// [`OpeningsError`] if the file is there and cannot be read.
    pub fn load(data_dir: &Path, capsule: &CapsuleId) -> Result<Option<Self>, OpeningsError> {
        let path = path(data_dir, capsule);
        let openings: Option<Self> = read(&path, "openings")?;
        Ok(openings.filter(|openings| openings.capsule == *capsule))
    }

    /// Keeps it in a data directory, mode 0600; a node that runs there shows it from now on.
    ///
    /// # Errors
    /// [`OpeningsError::Io`]; what was there before then still is.
    pub fn save(&self, data_dir: &Path) -> Result<(), OpeningsError> {
        let path = path(data_dir, &self.capsule);
        let failed = |source| OpeningsError::Io { path: path.clone(), source };
        let mut directory = fs::DirBuilder::new();
        directory.recursive(true).mode(0o700).create(data_dir.join(DIRECTORY)).map_err(failed)?;
        files::replace_secret(&path, &wire::to_bytes(self)).map_err(failed)
    }
}

fn path(data_dir: &Path, capsule: &CapsuleId) -> PathBuf {
    data_dir.join(DIRECTORY).join(format!("{capsule}.openings"))
}

/// Seals an opening to peers.
///
/// # Errors
/// [`OpeningsError::Seal`] if one of them has no key.
pub fn seal(
    opening: &FieldOpening,
    capsule: &CapsuleId,
    peers: &[Recipient],
) -> Result<Shown, OpeningsError> {
    let ephemeral = StaticSecret::from_bytes(&clock::random());
    let sealed = opening.seal(capsule, peers, &ephemeral);
    sealed.map(Shown::Sealed).map_err(|source| OpeningsError::Seal { field: opening.index, source })
}

/// Where packing leaves the hidden fields of a capsule: beside it.
#[must_use]
pub fn secret_path(capsule: &Path) -> PathBuf {
    capsule.with_extension("hidden")
}

/// Writes hidden fields with the seed of their salts, mode 0600: its holder can show any of them.
///
/// # Errors
/// [`OpeningsError::Io`].
pub fn write_secret(path: &Path, fields: &HiddenFields) -> Result<(), OpeningsError> {
    files::replace_secret(path, &wire::to_bytes(fields))
        .map_err(|source| OpeningsError::Io { path: path.into(), source })
}

/// Reads what [`write_secret`] wrote; nothing if there is no such file.
///
/// # Errors
/// [`OpeningsError`] if the file is there and does not hold hidden fields.
pub fn read_secret(path: &Path) -> Result<Option<HiddenFields>, OpeningsError> {
    read(path, "hidden fields")
}

/// Reads an opening that was handed over as a file.
///
/// # Errors
/// [`OpeningsError`] if there is no such file or it holds something else.
pub fn read_file(path: &Path) -> Result<OpeningFile, OpeningsError> {
    let missing = || OpeningsError::Io { path: path.into(), source: io::ErrorKind::NotFound.into() };
    read(path, "an opening")?.ok_or_else(missing)
}

/// Keeps what may be shown of a capsule that is published, if its hidden fields lie beside it.
pub(crate) fn keep_beside(
    data_dir: &Path,
    file: &Path,
    capsule: &nonos_capsule::Capsule,
) -> Result<(), OpeningsError> {
    let Some(hidden) = &capsule.manifest().hidden else { return Ok(()) };
    match read_secret(&secret_path(file))? {
        Some(fields) => Openings::of(capsule.id(), hidden, &fields)?.save(data_dir),
        // Somebody else keeps them.
        None => Ok(()),
    }
}

fn read<T: Wire>(path: &Path, what: &'static str) -> Result<Option<T>, OpeningsError> {
    let failed = |source| OpeningsError::Io { path: path.into(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    file.take(T::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let value = wire::from_bytes(&bytes);
    value.map(Some).map_err(|source| OpeningsError::Damaged { path: path.into(), what, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nonos_capsule::Field;
    use nonos_identity::WideDigest;

    use super::*;

    const THEN: Timestamp = Timestamp::from_secs(1_800_000_000);
    const BEFORE: Timestamp = Timestamp::from_secs(1_799_999_999);

    fn secret(byte: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[byte; 32])
    }

    fn id(byte: u8) -> CapsuleId {
        CapsuleId::from_digest(WideDigest::from_bytes([byte; 64]))
    }

    fn fields(seed: u8) -> (HiddenFields, Hidden) {
        let field = |name: &str, release| Field { name: name.into(), value: format!("of {name}"), release };
        let peers = vec![Recipient::from_bytes(secret(1).public())];
        let fields = vec![
            field("licence", Release::Public),
            field("price", Release::After(THEN)),
            field("customer", Release::Peers(peers)),
            field("note", Release::Author),
        ];
        let fields = HiddenFields::new([seed; 32], fields).expect("within the rules");
        let hidden = fields.commit().expect("within the rules");
        (fields, hidden)
    }

    fn kept() -> (Openings, Hidden) {
        let (fields, hidden) = fields(7);
        (Openings::of(id(1), &hidden, &fields).expect("they fit"), hidden)
    }

    #[test]
    fn each_rule_is_kept() {
        let (openings, hidden) = kept();
        let read = |field, now, byte| {
            let shown = openings.shown(field, now)?;
            Some(open(shown, &id(1), &hidden, field, &secret(byte)))
        };
        let name = |reading: Option<Result<Reading, ReadError>>| match reading {
            Some(Ok(Reading::Opened(opening))) => opening.name,
            other => format!("{other:?}"),
        };
        assert_eq!(name(read(0, BEFORE, 2)), "licence");
        assert_eq!(read(1, BEFORE, 2), None);
        assert_eq!(name(read(1, THEN, 2)), "price");
        assert_eq!(name(read(2, BEFORE, 1)), "customer");
        assert_eq!(read(2, BEFORE, 2), Some(Ok(Reading::Closed)));
        assert_eq!(read(3, THEN, 1), None);
        assert_eq!(read(4, THEN, 1), None);
    }

    /// What is for some, or for the author alone, is not readable on the disk.
    #[test]
    fn the_file_holds_no_secret_of_the_author() {
        let dir = tempfile::tempdir().expect("a directory");
        let (openings, _) = kept();
        openings.save(dir.path()).expect("written");
        assert_eq!(Openings::load(dir.path(), &id(1)).expect("readable"), Some(openings));
        assert_eq!(Openings::load(dir.path(), &id(2)).expect("nothing there"), None);
        let path = path(dir.path(), &id(1));
        let bytes = fs::read(&path).expect("there");
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("of licence") && !holds("of customer") && !holds("of note") && !holds("\x07\x07\x07"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        // A file under the name of another capsule shows nothing of it.
        fs::copy(&path, super::path(dir.path(), &id(2))).expect("copied");
        assert_eq!(Openings::load(dir.path(), &id(2)).expect("readable"), None);
        fs::write(&path, b"damaged").expect("written");
        let refused = Openings::load(dir.path(), &id(1));
        assert!(matches!(refused, Err(OpeningsError::Damaged { .. })), "{refused:?}");
    }

    #[test]
    fn fields_of_another_packing_are_refused() {
        let (hidden, other) = (fields(7).1, fields(8).0);
        let refused = Openings::of(id(1), &hidden, &other);
        assert!(matches!(refused, Err(OpeningsError::OtherFields)), "{refused:?}");
    }

    #[test]
    fn a_carried_opening_must_fit_the_manifest_and_its_rule() {
        let (fields, hidden) = fields(7);
        let file = |byte, field, opening| OpeningFile {
            capsule: id(byte),
            field,
            shown: Shown::Plain(FieldOpening::clone(&opening)),
        };
        let opening = |index| fields.open(index).expect("a field");
        let mut altered = opening(0);
        altered.value.push('!');
        let sealed = seal(&opening(2), &id(1), &[Recipient::from_bytes(secret(1).public())]).expect("a key");
        let mut openings = Openings { capsule: id(1), fields: Vec::new() };
        openings.insert(&hidden, file(1, 0, opening(0))).expect("public");
        openings.insert(&hidden, file(1, 1, opening(1))).expect("after its time");
        openings
            .insert(&hidden, OpeningFile { capsule: id(1), field: 2, shown: sealed })
            .expect("sealed to peers");
        let places: Vec<_> = openings.fields.iter().map(|kept| kept.field).collect();
        assert_eq!(places, [0, 1, 2]);
        assert_eq!(openings.shown(1, BEFORE), None);
        for (refused, rule) in [
            (file(1, 0, altered), false),
            (file(1, 1, opening(0)), false),
            (file(2, 0, opening(0)), false),
            (file(1, 2, opening(2)), true),
            (file(1, 3, opening(3)), true),
        ] {
            let error = openings.insert(&hidden, refused.clone());
            let expected = match rule {
                true => matches!(error, Err(OpeningsError::Rule(_))),
                false => matches!(error, Err(OpeningsError::OtherOpening)),
            };
            assert!(expected, "{refused:?}: {error:?}");
        }
    }

    /// The limits hold for the largest that the rules allow.
    #[test]
    fn the_largest_fit_their_limits() {
        let peer = Recipient::from_bytes(secret(1).public());
        let field = |release| Field { name: "n".repeat(64), value: "v".repeat(1_024), release };
        let mut all = vec![field(Release::Peers(vec![peer])); 62];
        all.push(field(Release::Peers(vec![peer; 2])));
        let fields = HiddenFields::new([7; 32], all).expect("within the rules");
        let openings = Openings::of(id(1), &fields.commit().expect("valid"), &fields).expect("they fit");
        assert!(wire::from_bytes::<Openings>(&wire::to_bytes(&openings)).is_ok());
        let opening = fields.open(0).expect("a field");
        let shown = seal(&opening, &id(1), &[peer; SharedBox::MAX_RECIPIENTS]).expect("a key");
        let largest = Kept { field: 63, from: Timestamp::from_secs(u64::MAX), shown: shown.clone() };
        let openings = Openings { capsule: id(1), fields: vec![largest; 64] };
        assert!(wire::from_bytes::<Openings>(&wire::to_bytes(&openings)).is_ok());
        let file = OpeningFile { capsule: id(1), field: 63, shown };
        assert_eq!(wire::from_bytes(&wire::to_bytes(&file)), Ok(file));
    }
}
