//! The checkpoint chains of this node's runs, kept on disk to answer disputes with.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use minicbor::{Decode, Encode};
use nonos_capsule::dispute::{ChainCommitment, ChainError, CommitError, CommittedChain, SignedChain};
use nonos_capsule::{CapsuleId, Execution};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Digest, Timestamp, Verified, WideDigest};

use crate::files;

/// Longest chain that is kept, in checkpoints: 4 MiB on disk, 12 MiB with its tree in memory.
const CHECKPOINTS_MAX: usize = 1 << 16;
/// Chains kept, the oldest dropped first: the disk that runs can take is 1 GiB.
const CHAINS_MAX: usize = 256;
/// Chains held in memory with their trees, ready to answer.
const OPEN_MAX: usize = 4;

/// Why a chain is not kept or not there. Nobody's fault but the medium's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChainsError {
    /// The medium failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file was altered.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The run cannot be disputed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The node's own certificate does not hold.
    #[error(transparent)]
    Sign(#[from] ChainError),
    /// Too long to be kept.
    #[error("a chain of {0} checkpoints is not kept; the limit is {CHECKPOINTS_MAX}")]
    TooLong(usize),
}

/// What is on disk.
#[derive(Encode, Decode)]
struct Kept {
    #[n(0)]
    capsule_id: CapsuleId,
    #[n(1)]
    input_digest: WideDigest,
    #[n(2)]
    exec_hash: WideDigest,
    #[n(3)]
    checkpoints: Vec<WideDigest>,
}

impl Wire for Kept {
    const MAX_BYTES: usize = CHECKPOINTS_MAX * 66 + 256;
}

/// A chain with its tree and this node's signature.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) chain: CommittedChain,
    pub(crate) signed: Vec<u8>,
    /// When the signature was made.
    at: Timestamp,
}

/// The chains of a data directory.
#[derive(Debug)]
pub(crate) struct Chains {
    directory: PathBuf,
    open: Mutex<VecDeque<(Digest, Arc<Open>)>>,
}

impl Chains {
    pub(crate) fn open_directory(directory: PathBuf) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, open: Mutex::default() })
    }

    /// Keeps the chain of a job's run.
    pub(crate) fn keep(&self, job: &Digest, run: &Execution) -> Result<(), ChainsError> {
        if run.checkpoints.len() > CHECKPOINTS_MAX {
            return Err(ChainsError::TooLong(run.checkpoints.len()));
        }
        // What cannot be disputed is refused here and not when somebody asks.
        CommittedChain::of(run)?;
        let kept = Kept {
            capsule_id: run.capsule_id,
            input_digest: run.input_digest,
            exec_hash: run.exec_hash,
            checkpoints: run.checkpoints.clone(),
        };
        self.make_room()?;
        Ok(files::replace(&self.path(job), &wire::to_bytes(&kept))?)
    }

    /// The chain of a job's run, signed; `None` if it did not run here.
    pub(crate) fn find(
        &self,
        job: &Digest,
        now: Timestamp,
        sign: impl FnOnce(&CommittedChain) -> Result<Verified<SignedChain>, ChainError>,
    ) -> Result<Option<Arc<Open>>, ChainsError> {
        if let Some(open) = self.ready(job, now) {
            return Ok(Some(open));
        }
        let bytes = match std::fs::read(self.path(job)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Kept { capsule_id, input_digest, exec_hash, checkpoints } = wire::from_bytes(&bytes)?;
        let chain = CommittedChain::from_checkpoints(capsule_id, input_digest, exec_hash, checkpoints)?;
        let signed = sign(&chain)?.envelope().as_bytes().to_vec();
        let open = Arc::new(Open { chain, signed, at: now });
        let mut shelf = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|(other, _)| other != job);
        shelf.truncate(OPEN_MAX - 1);
        shelf.push_front((*job, open.clone()));
        Ok(Some(open))
    }

    /// A chain that is in memory, unless its signature is about to expire.
    pub(crate) fn ready(&self, job: &Digest, now: Timestamp) -> Option<Arc<Open>> {
        let shelf = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, open) = shelf.iter().find(|(other, _)| other == job)?;
        (now.saturating_since(open.at) < ChainCommitment::LIFETIME / 2).then(|| open.clone())
    }

    fn path(&self, job: &Digest) -> PathBuf {
        self.directory.join(job.to_string())
    }

    /// Drops the oldest chains until there is room for another.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let excess = (files.len() + 1).saturating_sub(CHAINS_MAX);
        files.iter().take(excess).try_for_each(|(_, path): &(_, PathBuf)| remove(path))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a lying executor makes of its run: from one checkpoint on everything is another, and the
/// result follows from that.
pub(crate) fn lie(run: &mut Execution, at: u32) {
    for checkpoint in run.checkpoints.iter_mut().skip(at as usize) {
        *checkpoint = WideDigest::of_bytes(checkpoint.as_bytes());
    }
    run.exec_hash = run.compute_hash();
}
