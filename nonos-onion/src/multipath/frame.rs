//! What the two ends say. All frames have a fixed length, integers are big-endian:
//!
//! ```text
//! request  1 | digest of the manifest, 32 bytes | stripe u32 | shard u8
//! shard    2 | stripe u32 | shard u8 | length u32 | that many bytes
//! refusal  3 | stripe u32 | shard u8 | 0 u32
//! ```

use nonos_identity::Digest;

use crate::multipath::manifest::ShardId;

/// Bytes of a request.
pub(crate) const REQUEST_BYTES: usize = 38;
/// Bytes of a reply before the shard itself.
pub(crate) const REPLY_BYTES: usize = 10;

const REQUEST: u8 = 1;
const SHARD: u8 = 2;
const REFUSAL: u8 = 3;

/// Why bytes are not a frame. The fault of the other end; the stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No such kind of frame.
    #[error("no frame has kind {0}")]
    Kind(u8),
    /// A refusal with a length.
    #[error("a refusal has no bytes")]
    Refusal,
}

/// Asks for a shard of the object whose manifest has a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) object: Digest,
    pub(crate) id: ShardId,
}

impl Request {
    pub(crate) fn write(&self) -> [u8; REQUEST_BYTES] {
        let [s0, s1, s2, s3] = self.id.stripe.to_be_bytes();
        let mut frame = [0; REQUEST_BYTES];
        let tail = [s0, s1, s2, s3, self.id.shard];
        let bytes = [REQUEST].into_iter().chain(*self.object.as_bytes()).chain(tail);
        frame.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        frame
    }

    pub(crate) fn read(frame: &[u8; REQUEST_BYTES]) -> Result<Self, FrameError> {
        let [kind, digest @ .., s0, s1, s2, s3, shard] = *frame;
        if kind != REQUEST {
            return Err(FrameError::Kind(kind));
        }
        let id = ShardId { stripe: u32::from_be_bytes([s0, s1, s2, s3]), shard };
        Ok(Self { object: Digest::from_bytes(digest), id })
    }
}

/// The answer to a request: how many bytes follow, or that there is no such shard here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) id: ShardId,
    pub(crate) len: Option<u32>,
}

impl Reply {
    pub(crate) const fn write(&self) -> [u8; REPLY_BYTES] {
        let [s0, s1, s2, s3] = self.id.stripe.to_be_bytes();
        let (kind, [l0, l1, l2, l3]) = match self.len {
            Some(len) => (SHARD, len.to_be_bytes()),
            None => (REFUSAL, [0; 4]),
        };
        [kind, s0, s1, s2, s3, self.id.shard, l0, l1, l2, l3]
    }

    pub(crate) fn read(frame: &[u8; REPLY_BYTES]) -> Result<Self, FrameError> {
        let [kind, s0, s1, s2, s3, shard, l0, l1, l2, l3] = *frame;
        let len = match (kind, u32::from_be_bytes([l0, l1, l2, l3])) {
            (SHARD, len) => Some(len),
            (REFUSAL, 0) => None,
            (REFUSAL, _) => return Err(FrameError::Refusal),
            _ => return Err(FrameError::Kind(kind)),
        };
        Ok(Self { id: ShardId { stripe: u32::from_be_bytes([s0, s1, s2, s3]), shard }, len })
    }
}
