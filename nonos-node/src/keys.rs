//! The life of a node's keys on disk: which generation of each is in use, what the root certified,
//! and what it took back.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nonos_identity::wire;
use nonos_identity::{
    Certificate, CertificateError, Expiry, Identity, NetworkId, PublicKey, Revocation, RevocationError, Role,
    RootSigner, SigningKey, Timestamp, Unverified,
};
use serde::{Deserialize, Serialize};

use crate::files;

/// File with the generations in use.
pub const GENERATIONS: &str = "generations.toml";
/// File with the newest revocation list.
pub const REVOCATION: &str = "revocation.list";
/// Directory of the certificates that still count.
pub const CERTIFICATES: &str = "certificates";

/// Longest file that is read, in bytes: a planted one cannot fill the memory.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A key that can be replaced by its next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Rotatable {
    /// Signs records and epoch heads.
    EpochSigner,
    /// The onion address of the node.
    Onion,
}

impl Rotatable {
    /// The role of the key.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::EpochSigner => Role::EpochSigner,
            Self::Onion => Role::Onion,
        }
    }
}

/// Which generation of each key is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generations {
    /// Of the epoch signer.
    pub epoch_signer: u32,
    /// Of the onion key.
    pub onion: u32,
}

/// Why key files could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is not valid: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No generation is left.
    #[error("no generation of this key is left")]
    Exhausted,
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No revocation list.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
}

/// What a rotation did.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The generation now in use.
    pub generation: u32,
    /// Its key.
    pub key: PublicKey,
    /// The root's certificate for it.
    pub certificate: Certificate,
    /// Where the certificate is.
    pub path: PathBuf,
    /// Serials of certificates for earlier keys of the role that still count.
    pub earlier: Vec<u64>,
}

impl Generations {
    /// Reads those of a data directory; all are zero before the first rotation.
    ///
    /// # Errors
    /// [`KeyError`] if the file is there and cannot be used.
    pub fn load(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join(GENERATIONS);
        let Some(bytes) = read(&path)? else { return Ok(Self::default()) };
        let invalid = |message: String| KeyError::Invalid { path: path.clone(), message };
        let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
        toml::from_str(&text).map_err(|error| invalid(error.to_string()))
    }

    /// The generation of a key.
    #[must_use]
    pub const fn of(&self, key: Rotatable) -> u32 {
        match key {
            Rotatable::EpochSigner => self.epoch_signer,
            Rotatable::Onion => self.onion,
        }
    }

    /// The key in use.
    #[must_use]
    pub fn key(&self, identity: &Identity, key: Rotatable) -> SigningKey {
        identity.signing_key(key.role(), self.of(key))
    }

    fn advance(&mut self, key: Rotatable) -> Result<u32, KeyError> {
        let generation = match key {
            Rotatable::EpochSigner => &mut self.epoch_signer,
            Rotatable::Onion => &mut self.onion,
        };
        *generation = generation.checked_add(1).ok_or(KeyError::Exhausted)?;
        Ok(*generation)
    }

    fn save(&self, data_dir: &Path) -> Result<(), KeyError> {
        let path = data_dir.join(GENERATIONS);
        let text = toml::to_string_pretty(self)
            .map_err(|error| KeyError::Invalid { path: path.clone(), message: error.to_string() })?;
        files::replace(&path, text.as_bytes()).map_err(|source| KeyError::Io { path, source })
    }
}

/// Takes the next generation of a key into use and certifies it. A running node uses it after its
/// next start; certificates for the earlier keys count until they expire or are revoked.
///
/// # Errors
/// [`KeyError`]; the generation in use is then the old one.
pub fn rotate(
    data_dir: &Path,
    identity: &Identity,
    key: Rotatable,
    network: &NetworkId,
    now: Timestamp,
) -> Result<Rotated, KeyError> {
    let mut generations = Generations::load(data_dir)?;
    let earlier = certificates(data_dir)?;
    let generation = generations.advance(key)?;
    let signing = generations.key(identity, key);
    let root = identity.root_key();
    let (certificate, path) = certify(data_dir, &root, &signing, key.role(), network, now)?;
    generations.save(data_dir)?;
    let counts = |it: &&Certificate| it.role() == key.role() && it.not_after() > now;
    let earlier = earlier.iter().filter(counts).map(Certificate::serial).collect();
    Ok(Rotated { generation, key: signing.public(), certificate, path, earlier })
}

/// Certifies a role key for the longest time and keeps the certificate. The serial is the second
/// it was made in, or the next that no kept certificate has: a revocation must hit one alone.
pub(crate) fn certify(
    data_dir: &Path,
    root: &dyn RootSigner,
    key: &SigningKey,
    role: Role,
    network: &NetworkId,
    now: Timestamp,
) -> Result<(Certificate, PathBuf), KeyError> {
    let last = certificates(data_dir)?.last().map_or(0, Certificate::serial);
    let serial = now.as_secs().max(last.saturating_add(1));
    let lifetime = Certificate::MAX_LIFETIME;
    let certificate = Certificate::issue(root, key, role, serial, now, lifetime, network)?;
    let path = keep(data_dir, &certificate, now)?;
    Ok((certificate, path))
}

/// Signs the next revocation list, with these serials and those of the list before. Serials
/// of certificates that have expired may leave it.
///
/// # Errors
/// [`KeyError`]; the list on disk is then the old one.
pub fn revoke(
    data_dir: &Path,
    root: &dyn RootSigner,
    serials: &[u64],
    network: &NetworkId,
    now: Timestamp,
) -> Result<Revocation, KeyError> {
    let previous = revocation(data_dir, network, now)?;
    let path = data_dir.join(REVOCATION);
    let kept = previous.iter().flat_map(|list| list.serials().iter().copied());
    let all = kept.chain(serials.iter().copied());
    let interval = Revocation::MAX_INTERVAL;
    let list = Revocation::issue(root, previous.as_ref(), all, now, interval, network)?;
    files::replace(&path, &wire::to_bytes(&list)).map_err(|source| KeyError::Io { path, source })?;
    Ok(list)
}

/// The newest revocation list of a data directory, checked, if there is one.
///
/// # Errors
/// [`KeyError`] if the file is there and does not hold a valid list.
pub fn revocation(
    data_dir: &Path,
    network: &NetworkId,
    now: Timestamp,
) -> Result<Option<Revocation>, KeyError> {
    let path = data_dir.join(REVOCATION);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let list = wire::from_bytes::<Revocation>(&bytes)
        .map_err(|error| KeyError::Invalid { path, message: error.to_string() })?;
    Ok(Some(Unverified::new(list).check_issued(network, now)?.into_inner()))
}

/// The certificates that a data directory holds, by serial.
///
/// # Errors
/// [`KeyError`] if one cannot be read.
pub fn certificates(data_dir: &Path) -> Result<Vec<Certificate>, KeyError> {
    let directory = data_dir.join(CERTIFICATES);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(KeyError::Io { path: directory, source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| KeyError::Io { path: directory.clone(), source })?.path();
        if path.extension().is_none_or(|it| it != "cert") {
            continue;
        }
        let Some(bytes) = read(&path)? else { continue };
        let certificate = wire::from_bytes::<Certificate>(&bytes)
            .map_err(|error| KeyError::Invalid { path, message: error.to_string() })?;
        found.push(certificate);
    }
    found.sort_by_key(Certificate::serial);
    Ok(found)
}

/// Keeps a certificate, so that its serial is known when it has to be revoked, and drops those
/// that have expired.
fn keep(data_dir: &Path, certificate: &Certificate, now: Timestamp) -> Result<PathBuf, KeyError> {
    let directory = data_dir.join(CERTIFICATES);
    let name = |it: &Certificate| directory.join(format!("{}-{}.cert", it.role(), it.serial()));
    let failed = |path: &Path, source| KeyError::Io { path: path.into(), source };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|source| failed(&directory, source))?;
    for old in certificates(data_dir)? {
        if Expiry::of(old.not_after(), now) == Expiry::Expired {
            let path = name(&old);
            fs::remove_file(&path).map_err(|source| failed(&path, source))?;
        }
    }
    let path = name(certificate);
    files::replace(&path, &wire::to_bytes(certificate)).map_err(|source| failed(&path, source))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    use io::Read as _;
    let failed = |source| KeyError::Io { path: path.into(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    #[test]
    fn a_rotation_takes_the_next_key_and_names_what_still_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::from_seed(&[1; 64]);
        let first = Generations::default().key(&identity, Rotatable::EpochSigner);
        let root = identity.root_key();
        certify(dir.path(), &root, &first, Role::EpochSigner, &net(), NOW).expect("in the rules");
        let later = Timestamp::from_secs(NOW.as_secs() + 60);
        let rotated = rotate(dir.path(), &identity, Rotatable::EpochSigner, &net(), later).expect("rotated");
        assert_eq!((rotated.generation, &rotated.earlier[..]), (1, &[NOW.as_secs()][..]));
        assert_ne!(rotated.key, first.public());
        let generations = Generations::load(dir.path()).expect("saved");
        assert_eq!(generations, Generations { epoch_signer: 1, ..Generations::default() });
        assert_eq!(generations.key(&identity, Rotatable::EpochSigner).public(), rotated.key);
        let checked = Unverified::new(rotated.certificate).check_issued(Role::EpochSigner, &net(), later);
        assert_eq!(checked.expect("valid").subject(), rotated.key);
        assert_eq!(certificates(dir.path()).expect("readable").len(), 2);

        let month = Timestamp::from_secs(later.as_secs() + 31 * 86_400);
        let again = rotate(dir.path(), &identity, Rotatable::EpochSigner, &net(), month).expect("rotated");
        assert_eq!((again.generation, again.earlier), (2, Vec::new()));
        assert_eq!(certificates(dir.path()).expect("readable").len(), 1, "the expired are gone");
    }

    #[test]
    fn no_two_certificates_share_a_serial() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::from_seed(&[1; 64]);
        let serials: Vec<_> = [Rotatable::EpochSigner, Rotatable::Onion, Rotatable::EpochSigner]
            .map(|key| rotate(dir.path(), &identity, key, &net(), NOW).expect("rotated"))
            .iter()
            .map(|rotated| rotated.certificate.serial())
            .collect();
        assert_eq!(serials, [0, 1, 2].map(|at| NOW.as_secs() + at));
        assert_eq!(certificates(dir.path()).expect("readable").len(), 3);
    }

    #[test]
    fn lists_follow_each_other_and_grow() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Identity::from_seed(&[1; 64]).root_key();
        let first = revoke(dir.path(), &root, &[9], &net(), NOW).expect("signed");
        let second = revoke(dir.path(), &root, &[4, 9], &net(), NOW).expect("signed");
        assert_eq!((first.seq(), first.serials()), (0, &[9][..]));
        assert_eq!((second.seq(), second.serials()), (1, &[4, 9][..]));
        assert_eq!(revocation(dir.path(), &net(), NOW).expect("valid"), Some(second));
        let other = Identity::from_seed(&[2; 64]).root_key();
        let refused = revoke(dir.path(), &other, &[1], &net(), NOW);
        assert!(matches!(refused, Err(KeyError::Revocation(RevocationError::OtherRoot))), "{refused:?}");
        fs::write(dir.path().join(REVOCATION), b"damaged").expect("written");
        assert!(matches!(revoke(dir.path(), &root, &[1], &net(), NOW), Err(KeyError::Invalid { .. })));
    }
}
