//! Padding between a client and a hop: DROP cells, which look like any other from outside, and their budget.
//!
//! A client asks a hop with PADDING, once, for so many DROPs to a hundred other cells; that bounds both
//! directions. Links keep the order of a circuit's cells, so both ends count the same, and who sends more than
//! that loses the circuit. When to send one is for [`Scheduler`], which the feature `padding` brings; bearing and
//! bounding what the other end sends takes no feature. DROPs are no data: no window counts them, so none can
//! be opened or closed by them, and a window bounds the data that bounds them.

#[cfg(feature = "padding")]
mod scheduler;

#[cfg(feature = "padding")]
pub(crate) use crate::padding::scheduler::Scheduler;

/// DROPs that need no other cell: what a circuit may be disguised with before it carries anything.
pub(crate) const FREE_CELLS: u64 = 16;
/// Most DROPs to a hundred other cells.
pub(crate) const MAX_PERCENT: u8 = 100;
/// The only profile: gaps in traffic filled, then seldom signs of life.
const PROFILE: u8 = 1;

/// A PADDING message that no client makes, or a DROP beyond the budget. The fault of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("padding is malformed or beyond its budget")]
pub(crate) struct PaddingError;

/// What a client asks a hop for: `profile u8 | percent u8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) percent: u8,
}

impl Ask {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, PaddingError> {
        match *bytes {
            [PROFILE, percent @ 1..=MAX_PERCENT] => Ok(Self { percent }),
            _ => Err(PaddingError),
        }
    }

    pub(crate) const fn to_bytes(self) -> [u8; 2] {
        [PROFILE, self.percent]
    }
}

/// The cells of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All but DROPs.
    pub(crate) cells: u64,
    pub(crate) drops: u64,
}

impl Count {
    /// Whether the budget has room for one DROP more.
    pub(crate) const fn has_room(&self, percent: u8) -> bool {
        self.drops < FREE_CELLS + self.cells / 100 * percent as u64 + self.cells % 100 * percent as u64 / 100
    }

    /// Books a DROP.
    pub(crate) const fn drop_cell(&mut self, percent: u8) -> Result<(), PaddingError> {
        if !self.has_room(percent) {
            return Err(PaddingError);
        }
        self.drops += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn asks_are_canonical() {
        for percent in 1..=MAX_PERCENT {
            assert_eq!(Ask::read(&Ask { percent }.to_bytes()), Ok(Ask { percent }));
        }
        for wrong in [&[][..], &[1], &[1, 0], &[1, 101], &[2, 15], &[0, 15], &[1, 15, 0]] {
            assert_eq!(Ask::read(wrong), Err(PaddingError));
        }
    }

    proptest! {
        /// Whatever the order of cells and attempts to pad, the share keeps its bound, and all of it can be used.
        #[test]
        fn a_budget_is_never_exceeded(percent in 1..=MAX_PERCENT, steps in proptest::collection::vec(any::<bool>(), 0..2000)) {
            let mut count = Count::default();
            for is_cell in steps {
                if is_cell {
                    count.cells += 1;
                } else {
                    let before = count;
                    prop_assert_eq!(count.drop_cell(percent).is_ok(), before.has_room(percent));
                }
                prop_assert!(count.drops <= FREE_CELLS + count.cells * u64::from(percent) / 100);
            }
            while count.drop_cell(percent).is_ok() {}
            prop_assert_eq!(count.drops, FREE_CELLS + count.cells * u64::from(percent) / 100);
        }

        #[test]
        fn counts_of_any_size_do_not_overflow(cells in 0..u64::MAX / 2, percent in 1..=MAX_PERCENT) {
            let count = Count { cells, drops: 0 };
            prop_assert!(count.has_room(percent));
        }
    }
}
