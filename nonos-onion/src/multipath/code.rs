use minicbor::{Decode, Encode};

/// How many shards a stripe has, and how many of them make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Code {
    /// "2+1": two data shards and their exclusive or. Bears the loss of one path of three.
    #[n(1)]
    Xor2of3,
    /// "4+2": four data shards and two of Reed and Solomon. Bears the loss of any two shards.
    #[n(2)]
    ReedSolomon4of6,
}

impl Code {
    /// Data shards of a stripe, which is also how many shards make one.
    #[must_use]
    pub const fn data(self) -> usize {
        match self {
            Self::Xor2of3 => 2,
            Self::ReedSolomon4of6 => 4,
        }
    }

    /// Parity shards of a stripe.
    #[must_use]
    pub const fn parity(self) -> usize {
        match self {
            Self::Xor2of3 => 1,
            Self::ReedSolomon4of6 => 2,
        }
    }

    /// All shards of a stripe.
    #[must_use]
    pub const fn shards(self) -> usize {
        self.data() + self.parity()
    }

    /// Bytes of each shard of a stripe of `len` bytes. Even, as the arithmetic is on 16 bits.
    pub(crate) const fn shard_bytes(self, len: usize) -> usize {
        len.div_ceil(self.data()).next_multiple_of(2)
    }

    /// The parity of data shards of equal, even length above zero.
    pub(crate) fn encode(self, data: &[&[u8]]) -> Vec<Vec<u8>> {
        match self {
            Self::Xor2of3 => vec![xor(data)],
            Self::ReedSolomon4of6 => reed_solomon_simd::encode(self.data(), self.parity(), data)
                .expect("as many shards as the code has, of equal and even length"),
        }
    }

    /// The data shards that are missing among `shards`, in order; `None` below [`Self::data`].
    pub(crate) fn decode(self, shards: &[Option<&[u8]>]) -> Option<Vec<Vec<u8>>> {
        let (data, parity) = shards.split_at_checked(self.data())?;
        if shards.iter().flatten().count() < self.data() {
            return None;
        }
        if data.iter().all(Option::is_some) {
            return Some(Vec::new());
        }
        match self {
            Self::Xor2of3 => {
                let present: Vec<&[u8]> = shards.iter().flatten().copied().collect();
                Some(vec![xor(&present)])
            }
            Self::ReedSolomon4of6 => {
                let missing =
                    reed_solomon_simd::decode(self.data(), self.parity(), numbered(data), numbered(parity));
                Some(missing.ok()?.into_values().collect())
            }
        }
    }
}

/// Those that are there, with their places.
fn numbered<'a>(shards: &[Option<&'a [u8]>]) -> impl Iterator<Item = (usize, &'a [u8])> {
    shards.iter().enumerate().filter_map(|(place, shard)| Some((place, (*shard)?)))
}

fn xor(shards: &[&[u8]]) -> Vec<u8> {
    let mut sum = shards.first().map(|shard| shard.to_vec()).unwrap_or_default();
    for shard in shards.iter().skip(1) {
        sum.iter_mut().zip(*shard).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}
