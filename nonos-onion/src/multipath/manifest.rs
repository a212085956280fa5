use core::ops::Range;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Digest, WideDigest};

use crate::domains;
use crate::multipath::STRIPE_BYTES;
use crate::multipath::code::Code;

/// Most stripes of an object: bounds the bookkeeping that a manifest can ask for.
pub const MAX_STRIPES: u32 = 4096;
/// Longest object, in bytes: 4 GiB.
pub const MAX_OBJECT_BYTES: u64 = MAX_STRIPES as u64 * STRIPE_BYTES as u64;

/// Bytes of a digest in CBOR.
const DIGEST_BYTES: usize = Digest::LEN + 2;

/// Which shard of an object: data shards have the lower numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The stripe, from 0.
    pub stripe: u32,
    /// The shard of the stripe, from 0.
    pub shard: u8,
}

/// What the shards of an object are.
///
/// The digests of all shards stand in one list: 192 bytes for each MiB at most, where paths of a
/// Merkle tree would add as much to each shard and save only the list. The digests of the data
/// shards fix every byte of the object, so none of the whole is kept: it would hash every byte
/// twice and force an order on the stripes. [`Manifest::digest`] stands for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(Fields);

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Fields {
    #[n(0)]
    context: WideDigest,
    #[n(1)]
    code: Code,
    #[n(2)]
    stripe_bytes: u32,
    #[n(3)]
    object_bytes: u64,
    #[n(4)]
    shards: Vec<Digest>,
}

/// Why bytes are not the manifest of an object. The fault of whoever made them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not a manifest.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A manifest of something else.
    #[error("manifest belongs to another context")]
    Context,
}

/// Bytes that are not a shard of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path {path} sent a bad shard {} of stripe {}: {fault}", id.shard, id.stripe)]
pub struct ShardError {
    /// The path they came by, as numbered by the caller.
    pub path: usize,
    /// Which shard they were to be.
    pub id: ShardId,
    /// What is wrong.
    pub fault: ShardFault,
}

/// What is wrong with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardFault {
    /// The object has no such shard.
    #[error("no such shard")]
    Unknown,
    /// Of another length.
    #[error("wrong length")]
    Length,
    /// Not the bytes whose digest is listed.
    #[error("wrong digest")]
    Digest,
}

/// A shard whose bytes are those that its manifest lists.
#[derive(Clone, PartialEq, Eq)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Shard {
    /// Which one.
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// Its bytes, with the padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl core::fmt::Debug for Shard {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The digest of a shard, bound to the object and to its place.
pub(crate) fn shard_digest(context: &WideDigest, id: ShardId, bytes: &[u8]) -> Digest {
    let place = [&id.stripe.to_le_bytes()[..], &[id.shard]].concat();
    Digest::of(domains::SHARD, &[context.as_bytes(), &place, bytes])
}

impl Manifest {
    /// From shards that an encoder hashed, in order.
    pub(crate) fn new(context: WideDigest, code: Code, object_bytes: u64, shards: Vec<Digest>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a constant of 2^20")]
        let stripe_bytes = STRIPE_BYTES as u32;
        Self(Fields { context, code, stripe_bytes, object_bytes, shards })
    }

    /// Decodes the manifest of the object that `context` names.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(bytes: &[u8], context: &WideDigest) -> Result<Self, ManifestError> {
        let manifest: Self = wire::from_bytes(bytes)?;
        if manifest.0.context != *context {
            return Err(ManifestError::Context);
        }
        Ok(manifest)
    }

    /// What the object is to its user: the id of a capsule.
    #[must_use]
    pub const fn context(&self) -> &WideDigest {
        &self.0.context
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// Length of the object in bytes.
    #[must_use]
    pub const fn object_bytes(&self) -> u64 {
        self.0.object_bytes
    }

    /// Stripes of the object.
    #[must_use]
    pub const fn stripes(&self) -> u32 {
        stripes(self.0.object_bytes)
    }

    /// The digest of the manifest, and through it of the whole object. Requests name it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(domains::MULTIPATH_MANIFEST, &[&wire::to_bytes(self)])
    }

    /// Where the bytes of a stripe are in the object; empty beyond the last stripe.
    #[must_use]
    pub fn range(&self, stripe: u32) -> Range<u64> {
        let at = |stripe: u64| (stripe * STRIPE_BYTES as u64).min(self.0.object_bytes);
        at(stripe.into())..at(u64::from(stripe) + 1)
    }

    /// Bytes of a stripe without its padding: at most [`STRIPE_BYTES`].
    pub(crate) fn stripe_len(&self, stripe: u32) -> usize {
        let range = self.range(stripe);
        usize::try_from(range.end - range.start).unwrap_or(STRIPE_BYTES)
    }

    /// Bytes of each shard of a stripe.
    #[must_use]
    pub fn shard_bytes(&self, stripe: u32) -> usize {
        self.0.code.shard_bytes(self.stripe_len(stripe))
    }

    /// The digest of a shard, if there is such a shard.
    #[must_use]
    pub fn shard_digest(&self, id: ShardId) -> Option<&Digest> {
        let (per_stripe, shard) = (self.0.code.shards(), usize::from(id.shard));
        let stripe = usize::try_from(id.stripe).ok()?;
        if shard >= per_stripe {
            return None;
        }
        self.0.shards.get(stripe.checked_mul(per_stripe)?.checked_add(shard)?)
    }

    /// Checks bytes that came by a path.
    ///
    /// # Errors
    /// [`ShardError`], which names the path.
    pub fn check(&self, path: usize, id: ShardId, bytes: Vec<u8>) -> Result<Shard, ShardError> {
        let error = |fault| ShardError { path, id, fault };
        let digest = *self.shard_digest(id).ok_or_else(|| error(ShardFault::Unknown))?;
        if bytes.len() != self.shard_bytes(id.stripe) {
            return Err(error(ShardFault::Length));
        }
        if shard_digest(&self.0.context, id, &bytes) != digest {
            return Err(error(ShardFault::Digest));
        }
        Ok(Shard { id, digest, bytes })
    }
}

const fn stripes(object_bytes: u64) -> u32 {
    let stripes = object_bytes.div_ceil(STRIPE_BYTES as u64);
    if stripes > u32::MAX as u64 {
        return u32::MAX;
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared the line above")]
    let stripes = stripes as u32;
    stripes
}

impl<C> Encode<C> for Manifest {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Manifest {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let fields = Fields::decode(d, ctx)?;
        let stripes = stripes(fields.object_bytes);
        let shards = u64::from(stripes) * fields.code.shards() as u64;
        let wrong = |what| Err(minicbor::decode::Error::message(what));
        match () {
            () if usize::try_from(fields.stripe_bytes) != Ok(STRIPE_BYTES) => wrong("another stripe size"),
            () if stripes > MAX_STRIPES => wrong("too many stripes"),
            () if fields.shards.len() as u64 != shards => wrong("not one digest for each shard"),
            () => Ok(Self(fields)),
        }
    }
}

impl Wire for Manifest {
    /// The digests of the longest object in the code with the most shards, and 128 bytes beside.
    const MAX_BYTES: usize = MAX_STRIPES as usize * Code::ReedSolomon4of6.shards() * DIGEST_BYTES + 128;
}
