use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::multipath::manifest::{Manifest, Shard, ShardId, shard_digest};

/// Stripes of which some shards are held. Each holds less than one stripe's bytes, so a rebuild
/// holds less than 32 MiB, whatever order shards come in.
pub const MAX_OPEN_STRIPES: usize = 32;

/// Why a shard did not bring a rebuild further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// [`MAX_OPEN_STRIPES`] stripes are open, and this shard is of another one. The caller's
    /// fault: it asked for shards of too many stripes.
    #[error("{MAX_OPEN_STRIPES} stripes are open already")]
    Full,
    /// A shard of another object. The caller's fault.
    #[error("shard is of another object")]
    Foreign,
    /// The parity that the manifest lists is not the parity of the data that it lists. The fault
    /// of whoever made the manifest, and of no path.
    #[error("manifest lists parity that does not belong to the data of stripe {0}")]
    Inconsistent(u32),
}

/// A stripe of the object, every byte of it checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// Its number.
    pub number: u32,
    /// Where it starts in the object.
    pub offset: u64,
    /// Its bytes, without padding.
    pub bytes: Vec<u8>,
    /// Data shards that were made from parity.
    pub rebuilt: usize,
}

/// Makes stripes from shards that come in any order.
#[derive(Debug)]
pub struct Rebuild {
    manifest: Arc<Manifest>,
    open: BTreeMap<u32, Vec<Option<Vec<u8>>>>,
    done: BTreeSet<u32>,
}

impl Rebuild {
    /// A rebuild of an object of which the stripes `have` are there already; numbers beyond the
    /// last stripe are ignored.
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, have: &BTreeSet<u32>) -> Self {
        let done = have.range(..manifest.stripes()).copied().collect();
        Self { manifest, open: BTreeMap::new(), done }
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The finished stripes, those there at the start among them.
    #[must_use]
    pub const fn done(&self) -> &BTreeSet<u32> {
        &self.done
    }

    /// Whether every stripe is finished.
    #[must_use]
    pub fn is_done(&self) -> bool {
        u32::try_from(self.done.len()) == Ok(self.manifest.stripes())
    }

    /// Whether a shard is held.
    #[must_use]
    pub fn holds(&self, id: ShardId) -> bool {
        let shards = self.open.get(&id.stripe);
        shards.and_then(|shards| shards.get(usize::from(id.shard))).is_some_and(Option::is_some)
    }

    /// How many more shards a stripe needs, whichever they are.
    #[must_use]
    pub fn needs(&self, stripe: u32) -> usize {
        if stripe >= self.manifest.stripes() || self.done.contains(&stripe) {
            return 0;
        }
        let held = self.open.get(&stripe).map_or(0, |shards| shards.iter().flatten().count());
        self.manifest.code().data() - held
    }

    /// Takes a shard, and yields the stripe that it completes. Shards beyond those that a stripe
    /// needs are ignored.
    ///
    /// # Errors
    /// [`RebuildError`]; the shard is dropped, and all of its stripe if that is inconsistent.
    pub fn add(&mut self, shard: Shard) -> Result<Option<Stripe>, RebuildError> {
        let Shard { id: id @ ShardId { stripe, shard: place }, digest, bytes } = shard;
        if self.manifest.shard_digest(id) != Some(&digest) {
            return Err(RebuildError::Foreign);
        }
        if self.done.contains(&stripe) || self.holds(id) {
            return Ok(None);
        }
        if self.open.len() >= MAX_OPEN_STRIPES && !self.open.contains_key(&stripe) {
            return Err(RebuildError::Full);
        }
        let none = || vec![None; self.manifest.code().shards()];
        let shards = self.open.entry(stripe).or_insert_with(none);
        if let Some(place) = shards.get_mut(usize::from(place)) {
            *place = Some(bytes);
        }
        if self.needs(stripe) > 0 {
            return Ok(None);
        }
        let shards = self.open.remove(&stripe).unwrap_or_default();
        let stripe = self.stripe(stripe, shards)?;
        self.done.insert(stripe.number);
        Ok(Some(stripe))
    }

    fn stripe(&self, number: u32, mut shards: Vec<Option<Vec<u8>>>) -> Result<Stripe, RebuildError> {
        let inconsistent = RebuildError::Inconsistent(number);
        let code = self.manifest.code();
        let present: Vec<Option<&[u8]>> = shards.iter().map(Option::as_deref).collect();
        let missing = code.decode(&present).ok_or(inconsistent)?;
        let rebuilt = missing.len();
        shards.truncate(code.data());
        let gaps = (0..).zip(&mut shards).filter(|(_, shard)| shard.is_none());
        for ((shard, gap), bytes) in gaps.zip(missing) {
            // Every way to make a stripe makes the same bytes, or it is refused here.
            let id = ShardId { stripe: number, shard };
            let digest = shard_digest(self.manifest.context(), id, &bytes);
            if self.manifest.shard_digest(id) != Some(&digest) {
                return Err(inconsistent);
            }
            *gap = Some(bytes);
        }
        let mut bytes = shards.into_iter().flatten().collect::<Vec<_>>().concat();
        bytes.truncate(self.manifest.stripe_len(number));
        Ok(Stripe { number, offset: self.manifest.range(number).start, bytes, rebuilt })
    }
}
