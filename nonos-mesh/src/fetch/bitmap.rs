/// A set of chunk positions, for resuming and for what a provider holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    len: u32,
    bits: Vec<u8>,
}

impl Bitmap {
    /// No chunk out of `len`.
    #[must_use]
    pub fn none(len: u32) -> Self {
        Self { len, bits: vec![0; (len as usize).div_ceil(8)] }
    }

    /// Every chunk out of `len`.
    #[must_use]
    pub fn all(len: u32) -> Self {
        let mut map = Self::none(len);
        (0..len).for_each(|i| map.set(i));
        map
    }

    /// Reads the bytes of [`Self::as_bytes`], `None` if they are not of a map of `len` chunks.
    #[must_use]
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Option<Self> {
        let map = Self { len, bits: bytes.to_vec() };
        let spare = (bytes.len() * 8).checked_sub(len as usize)?;
        let tail = bytes.last().map_or(0, |b| b.leading_zeros() as usize);
        (bytes.len() == (len as usize).div_ceil(8) && tail >= spare).then_some(map)
    }

    /// One bit per chunk, the first chunk in the lowest bit of the first byte.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// How many chunks it speaks about.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether it holds no chunk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|b| *b == 0)
    }

    /// Whether it holds every chunk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// How many chunks it holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.bits.iter().map(|b| b.count_ones()).sum()
    }

    /// Adds a chunk; a position beyond the end is ignored.
    pub fn set(&mut self, index: u32) {
        if index < self.len
            && let Some(byte) = self.bits.get_mut(index as usize / 8)
        {
            *byte |= 1 << (index % 8);
        }
    }

    /// Whether it holds a chunk.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.bits.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_spare_bits_are_refused() {
        let mut map = Bitmap::none(11);
        map.set(0);
        map.set(10);
        map.set(11);
        assert_eq!(map.count(), 2);
        assert_eq!(Bitmap::from_bytes(11, map.as_bytes()), Some(map));
        assert_eq!(Bitmap::from_bytes(11, &[0, 0b1000]), None);
        assert_eq!(Bitmap::from_bytes(11, &[0]), None);
        assert!(Bitmap::all(11).is_full());
        assert_eq!(Bitmap::from_bytes(0, &[]), Some(Bitmap::none(0)));
    }
}
