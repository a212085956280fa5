//! How many relays this node's circuits take, by what it measured on them itself.

use std::time::Duration;

use nonos_identity::Epoch;
use nonos_onion::{Adaptation, Advice, BoundsError, HopBounds, HopClass, Measured, Needs};
use serde::{Deserialize, Serialize};

use crate::clock;

/// Round trips kept of one epoch; later ones do not count.
const ROUND_TRIPS_MAX: usize = 1024;
/// Less payload than this tells of latency, not of goodput.
const SAMPLE_BYTES: u64 = 1 << 20;

/// The circuits of a node, `[circuits]` in its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Circuits {
    /// Fewest relays between this node and the other end, 2 to 5. Two are fast, and hide nothing from one
    /// relay that also watches the other end.
    pub min_relays: u8,
    /// Most relays, 2 to 5: what the node begins with. It takes fewer only after an hour of epochs that miss
    /// one of the needs below, each over other relays; and who slows down all its circuits for that long
    /// gets it there.
    pub max_relays: u8,
    /// KiB per second below which an epoch counts as slow.
    pub min_goodput_kib: u64,
    /// Round trip to the end of a circuit, in milliseconds, above which it does.
    pub max_rtt_ms: u64,
    /// Batches of 256 KiB that each relay of a circuit can prove to have carried, at most 1024; 32 bytes to each
    /// relay for each batch, when the circuit is built. If it is not 0, relays are paid for what they prove and
    /// for nothing else: 0, the default, pays them for the cells that this node counted.
    pub transit_batches: u16,
    /// As a relay, keeps proofs of what it carried and shows each to the client that demands it. They are records
    /// of who carried how much, and when. Without them, clients that demand proof pay this relay nothing.
    pub prove_transit: bool,
}

impl Default for Circuits {
    fn default() -> Self {
        Self {
            min_relays: 3,
            max_relays: 3,
            min_goodput_kib: 128,
            max_rtt_ms: 1_500,
            transit_batches: 0,
            prove_transit: false,
        }
    }
}

/// Why a node's settings give no circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CircuitsError {
    /// A circuit has two to five relays.
    #[error("circuits: {0} relays are not within 2 and 5")]
    Relays(u8),
    /// The fewest are more than the most.
    #[error("circuits: {0}")]
    Bounds(#[from] BoundsError),
}

/// Measures epochs and adapts the hop class.
#[derive(Debug)]
pub(crate) struct Hops {
    adaptation: Adaptation,
    round_trips: Vec<Duration>,
    bytes: u64,
    waited: Duration,
}

impl Hops {
    pub(crate) fn new(settings: Circuits, epoch: Epoch) -> Result<Self, CircuitsError> {
        let bounds = HopBounds::new(class(settings.min_relays)?, class(settings.max_relays)?)?;
        let needs = Needs {
            min_goodput_bytes: settings.min_goodput_kib.saturating_mul(1024),
            max_rtt: Duration::from_millis(settings.max_rtt_ms),
        };
        let adaptation = Adaptation::new(bounds, needs, epoch, clock::random());
        Ok(Self { adaptation, round_trips: Vec::new(), bytes: 0, waited: Duration::ZERO })
    }

    /// The class of new circuits.
    pub(crate) const fn class(&self) -> HopClass {
        self.adaptation.class()
    }

    /// A circuit was built, in one round trip.
    pub(crate) fn built(&mut self, took: Duration) {
        if self.round_trips.len() < ROUND_TRIPS_MAX {
            self.round_trips.push(took);
        }
    }

    /// Payload arrived over circuits while this node waited for nothing else.
    pub(crate) fn delivered(&mut self, bytes: u64, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
    }

    /// An epoch has ended; says how many relays new circuits take if that changed.
    pub(crate) fn advance(&mut self, epoch: Epoch) -> Option<HopClass> {
        let measured = self.measured();
        (self.bytes, self.waited) = (0, Duration::ZERO);
        self.round_trips.clear();
        match self.adaptation.advance(epoch, measured, clock::random()) {
            Advice::Class(class) => Some(class),
            // Every circuit takes other relays behind the guard as it is.
            Advice::Keep | Advice::Reselect => None,
        }
    }

    fn measured(&mut self) -> Option<Measured> {
        let middle = self.round_trips.len() / 2;
        self.round_trips.sort_unstable();
        let rtt = *self.round_trips.get(middle)?;
        let millis = self.waited.as_millis().max(1);
        let goodput = u128::from(self.bytes) * 1000 / millis;
        let goodput_bytes = u64::try_from(goodput).unwrap_or(u64::MAX);
        (self.bytes >= SAMPLE_BYTES).then_some(Measured { goodput_bytes, rtt })
    }
}

const fn class(relays: u8) -> Result<HopClass, CircuitsError> {
    match relays {
        2 => Ok(HopClass::Two),
        3 => Ok(HopClass::Three),
        4 => Ok(HopClass::Four),
        5 => Ok(HopClass::Five),
        _ => Err(CircuitsError::Relays(relays)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Epoch = Epoch::from_number(3_000_000);

    fn hops(min_relays: u8, max_relays: u8) -> Result<Hops, CircuitsError> {
        Hops::new(Circuits { min_relays, max_relays, ..Circuits::default() }, START)
    }

    /// Epochs until the class changes; each delivers 2 MiB at that rate.
    fn until_change(hops: &mut Hops, bytes_per_sec: u64, rtt: Duration) -> Option<(u64, HopClass)> {
        (1..60).find_map(|number| {
            hops.built(rtt);
            let bytes = 2 << 20;
            hops.delivered(bytes, Duration::from_millis(bytes * 1000 / bytes_per_sec));
            Some((number, hops.advance(Epoch::from_number(START.number() + number))?))
        })
    }

    #[test]
    fn hours_of_slow_epochs_shorten_within_the_bounds() {
        let fast = Duration::from_millis(100);
        let mut hops = hops(2, 4).unwrap();
        assert_eq!(hops.class(), HopClass::Four);
        let (after, class) = until_change(&mut hops, 10_000, fast).unwrap();
        assert!(class == HopClass::Three && after > 6, "{after}");
        let slow = Duration::from_secs(2);
        assert_eq!(until_change(&mut self::hops(2, 3).unwrap(), 10 << 20, slow).unwrap().1, HopClass::Two);
        assert_eq!(until_change(&mut self::hops(3, 3).unwrap(), 10_000, slow), None);
    }

    #[test]
    fn little_payload_measures_nothing() {
        let mut hops = hops(2, 3).unwrap();
        for number in 1..60 {
            hops.built(Duration::from_secs(9));
            hops.delivered(1000, Duration::from_secs(10));
            assert_eq!(hops.advance(Epoch::from_number(START.number() + number)), None);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        assert!(matches!(hops(1, 3), Err(CircuitsError::Relays(1))));
        assert!(matches!(hops(3, 6), Err(CircuitsError::Relays(6))));
        assert!(matches!(hops(4, 3), Err(CircuitsError::Bounds(_))));
    }
}
