use std::io::{self, Read};

use nonos_identity::{Digest, WideDigest};

use crate::multipath::STRIPE_BYTES;
use crate::multipath::code::Code;
use crate::multipath::manifest::{MAX_OBJECT_BYTES, Manifest, ShardId, shard_digest};

/// Why an object cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The object could not be read.
    #[error("object cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Longer than [`MAX_OBJECT_BYTES`]. The caller's fault.
    #[error("object exceeds {MAX_OBJECT_BYTES} bytes")]
    TooLong,
}

/// Makes the shards of an object, a stripe at a time, and then its manifest.
///
/// It holds one stripe: with its parity, at most twice [`STRIPE_BYTES`].
#[derive(Debug)]
pub struct Encoder {
    context: WideDigest,
    code: Code,
    stripe: u32,
    object_bytes: u64,
    digests: Vec<Digest>,
}

impl Encoder {
    /// An encoder for the object that `context` names.
    #[must_use]
    pub const fn new(context: WideDigest, code: Code) -> Self {
        Self { context, code, stripe: 0, object_bytes: 0, digests: Vec::new() }
    }

    /// The manifest of an object, whose shards are not kept.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn manifest_of(
        context: WideDigest,
        code: Code,
        object: &mut dyn Read,
    ) -> Result<Manifest, EncodeError> {
        let mut encoder = Self::new(context, code);
        while encoder.stripe(object)?.is_some() {}
        Ok(encoder.finish())
    }

    /// Reads one stripe and yields its shards in order; `None` at the end of the object.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn stripe(&mut self, object: &mut dyn Read) -> Result<Option<Vec<Vec<u8>>>, EncodeError> {
        // Only the last stripe is shorter: nothing follows it.
        if !self.object_bytes.is_multiple_of(STRIPE_BYTES as u64) {
            return Ok(None);
        }
        let mut stripe = Vec::with_capacity(STRIPE_BYTES);
        object.take(STRIPE_BYTES as u64).read_to_end(&mut stripe)?;
        if stripe.is_empty() {
            return Ok(None);
        }
        self.object_bytes += stripe.len() as u64;
        if self.object_bytes > MAX_OBJECT_BYTES {
            return Err(EncodeError::TooLong);
        }
        let shards = shards(self.code, stripe);
        for (shard, bytes) in (0..).zip(&shards) {
            let id = ShardId { stripe: self.stripe, shard };
            self.digests.push(shard_digest(&self.context, id, bytes));
        }
        self.stripe += 1;
        Ok(Some(shards))
    }

    /// The manifest of what was read.
    #[must_use]
    pub fn finish(self) -> Manifest {
        Manifest::new(self.context, self.code, self.object_bytes, self.digests)
    }
}

/// Pads a stripe and adds its parity.
pub(crate) fn shards(code: Code, mut stripe: Vec<u8>) -> Vec<Vec<u8>> {
    let bytes = code.shard_bytes(stripe.len());
    stripe.resize(bytes * code.data(), 0);
    let data: Vec<&[u8]> = stripe.chunks(bytes).collect();
    let parity = code.encode(&data);
    data.into_iter().map(<[u8]>::to_vec).chain(parity).collect()
}
