use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{NodeId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::descriptor::RelayDescriptor;
use crate::guard::{GuardError, GuardSet};
use crate::path::{PathRequest, PathSelector, Selection};
use crate::pinned::{Day, Pinned, VERSION, decode_pinned, decode_version, uniform_days};
use crate::pool::{Place, Pool};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Vanguard {
    #[n(0)]
    place: Place,
    /// The first day on which it is no longer one.
    #[n(1)]
    until: Day,
}

impl Pinned for Vanguard {
    fn place(&self) -> &Place {
        &self.place
    }
}

/// Pinned second hops, for circuits that strangers can make a node build: those of onion services.
///
/// Who makes a service build circuits until its own relay is the second hop learns the guard. With
/// four second hops that stay for about a week, an adversary with 1 % of the weight has even odds
/// after four months, one with 10 % after two weeks (Tor proposal 333, vanguards-lite, section 3);
/// these stay for about two weeks. Services that live long need a third layer (proposal 292), which
/// is not here.
///
/// A vanguard stays until it expires, listed or not, so that nobody can make a service draw. They
/// are drawn regardless of guards and destinations, which therefore cannot be read from them, and
/// are stored like the guards, where Tor forgets them at a restart: restarts can be forced.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Vanguards {
    #[cbor(n(0), decode_with = "decode_version")]
    version: u8,
    #[cbor(n(1), decode_with = "decode_pinned::<Vanguard, _, { Vanguards::SIZE }>")]
    relays: Vec<Vanguard>,
}

impl Default for Vanguards {
    fn default() -> Self {
        Self { version: VERSION, relays: Vec::new() }
    }
}

impl Vanguards {
    /// Second hops of a node (proposal 333, section 1, `NUM_LAYER2_GUARDS`).
    pub const SIZE: usize = 4;
    /// Shortest lifetime, in days.
    pub const MIN_LIFETIME_DAYS: u8 = 1;
    /// Longest lifetime, in days; each is the larger of two uniform draws, about two weeks on the
    /// average (Tor vanguards-spec, Vanguards-Lite, "Rotation Period"; proposal 333 had 12).
    pub const MAX_LIFETIME_DAYS: u8 = 22;

    /// The second hops.
    pub fn relays(&self) -> impl Iterator<Item = NodeId> {
        self.relays.iter().map(|vanguard| vanguard.place.relay)
    }

    /// Chooses a path like [`GuardSet::path`], with one of these as its second hop.
    ///
    /// # Errors
    /// [`GuardError`] says what lacks.
    pub fn path(
        &mut self,
        guards: &mut GuardSet,
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
        seed: [u8; 32],
    ) -> Result<Selection, GuardError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let guard = guards.first_hops(selector, request, now, &mut rng)?.swap_remove(0);
        let pool = Pool::new(selector.rules(), request.candidates.iter(), &[guards.client()], now);
        self.renew(&pool, Day::of(now), &mut rng);
        let second = self.choose(&guard, selector, &pool, request, &mut rng).ok_or(GuardError::Vanguards)?;
        Ok(guards.complete(&[guard, second], selector, request, now, &mut rng)?)
    }

    fn renew(&mut self, pool: &Pool<'_>, day: Day, rng: &mut ChaCha20Rng) {
        self.relays.retain(|vanguard| day < vanguard.until);
        let mut pool = pool.clone();
        self.relays.iter().for_each(|vanguard| pool.leave_out(&vanguard.place));
        while self.relays.len() < Self::SIZE {
            let Some(drawn) = pool.draw(rng) else { return };
            let [one, other] =
                [(); 2].map(|()| uniform_days(rng, Self::MIN_LIFETIME_DAYS, Self::MAX_LIFETIME_DAYS));
            let place = drawn.into();
            pool.leave_out(&place);
            self.relays.push(Vanguard { place, until: day.plus(u32::from(one.max(other))) });
        }
    }

    /// Any of those that fit, with equal probability.
    fn choose(
        &self,
        guard: &RelayDescriptor,
        selector: &PathSelector,
        pool: &Pool<'_>,
        request: &PathRequest<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Option<RelayDescriptor> {
        let fits = |relay: &&RelayDescriptor| {
            relay.relay != request.destination.relay
                && !request.exclude.contains(&relay.relay)
                && !selector.rules().conflict(&Place::from(*relay), &guard.into())
        };
        let listed = self.relays.iter().filter_map(|vanguard| pool.get(&vanguard.place.relay));
        let open: Vec<&RelayDescriptor> = listed.filter(fits).collect();
        let at = rng.next_u64().checked_rem(open.len() as u64)?;
        open.get(usize::try_from(at).ok()?).map(|&relay| relay.clone())
    }
}

impl Wire for Vanguards {
    const MAX_BYTES: usize = 320;
}

impl fmt::Debug for Vanguards {
    /// Without the relays: a log is where nobody should find them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vanguards").field("relays", &self.relays.len()).finish_non_exhaustive()
    }
}
