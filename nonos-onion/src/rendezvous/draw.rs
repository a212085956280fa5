use core::fmt;
use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroizing;

/// Everything random that one party draws, from the seed it was given.
pub(super) struct Draw(Mutex<ChaCha20Rng>);

impl Draw {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self(Mutex::new(ChaCha20Rng::from_seed(*seed)))
    }

    /// Fresh bytes.
    pub(super) fn seed(&self) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut *seed);
        seed
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&self, bound: usize) -> usize {
        let drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        // The bias is below 2^-32 for the few things that there are to choose from.
        let below = drawn.checked_rem(u64::try_from(bound).unwrap_or(u64::MAX)).unwrap_or(0);
        usize::try_from(below).unwrap_or(0)
    }

    /// A random order.
    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Draw(..)")
    }
}
