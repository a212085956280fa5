use core::fmt;
use std::io;

use nonos_identity::{Digest, WideDigest};

use crate::multipath::code::Code;
use crate::multipath::encoder::{EncodeError, Encoder, shards};
use crate::multipath::manifest::{Manifest, ShardId};

/// Where the bytes of an object are.
///
/// Reading the same place twice yields the same bytes. Calls may come from several tasks at once;
/// they may block for as long as a disk takes.
pub trait Source: Send + Sync {
    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// An error of the medium, or `UnexpectedEof` beyond the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl Source for Vec<u8> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let bytes = rest.get(..into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// An object that can be asked for its shards. Parity is made when asked for and not kept.
pub struct Object {
    manifest: Manifest,
    digest: Digest,
    source: Box<dyn Source>,
}

impl Object {
    /// An object with the manifest that was made from the same bytes.
    #[must_use]
    pub fn new(manifest: Manifest, source: Box<dyn Source>) -> Self {
        Self { digest: manifest.digest(), manifest, source }
    }

    /// An object in memory.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn from_bytes(context: WideDigest, code: Code, bytes: Vec<u8>) -> Result<Self, EncodeError> {
        let manifest = Encoder::manifest_of(context, code, &mut &bytes[..])?;
        Ok(Self::new(manifest, Box::new(bytes)))
    }

    /// Its manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of its manifest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes of a shard; `None` if there is no such shard.
    ///
    /// # Errors
    /// What the [`Source`] returns.
    pub fn shard(&self, id: ShardId) -> io::Result<Option<Vec<u8>>> {
        if self.manifest.shard_digest(id).is_none() {
            return Ok(None);
        }
        let (code, shard) = (self.manifest.code(), usize::from(id.shard));
        let (bytes, len) = (self.manifest.shard_bytes(id.stripe), self.manifest.stripe_len(id.stripe));
        let start = self.manifest.range(id.stripe).start;
        if shard >= code.data() {
            let mut stripe = vec![0; len];
            self.source.read_at(start, &mut stripe)?;
            return Ok(shards(code, stripe).into_iter().nth(shard));
        }
        let (from, to) = ((shard * bytes).min(len), ((shard + 1) * bytes).min(len));
        let mut data = vec![0; to - from];
        self.source.read_at(start + from as u64, &mut data)?;
        data.resize(bytes, 0);
        Ok(Some(data))
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("digest", &self.digest).finish_non_exhaustive()
    }
}
