mod entry;

use core::fmt;
use core::slice;
use core::time::Duration;

use minicbor::{Decode, Decoder, Encode, decode};
use nonos_identity::wire::Wire;
use nonos_identity::{NodeId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use self::entry::Guard;
use crate::descriptor::RelayDescriptor;
use crate::path::{PathError, PathRequest, PathSelector, Selection};
use crate::pinned::{Day, Missed, VERSION, decode_pinned, decode_version};
use crate::pool::{Place, Pool};

/// Why no pinned relay carries a circuit. Nobody's fault: fail closed, and wait or ask the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// What lacks for the path, whoever is its first hop.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Guards are known, and none of those that fit answers; the next try is due in that time.
    #[error("no guard answers; next try in {} s", .0.as_secs())]
    Unreachable(Duration),
    /// The guards left are the destination, share its operator or subnet, or are excluded.
    #[error("no guard fits this destination")]
    Excluded,
    /// No guard has a live descriptor. They are kept for [`GuardSet::LOST_AFTER_DAYS`].
    #[error("no guard is listed")]
    Unlisted,
    /// No guard is left and no other may be drawn before that time: see [`GuardSet::MAX_SAMPLES`].
    #[error("as many guards drawn as may be; none before {0}")]
    Samples(Timestamp),
    /// No pinned second hop is listed and fits this circuit.
    #[error("no vanguard fits")]
    Vanguards,
}

/// A client's first hops: two primary guards and a backup, pinned for months.
///
/// Whoever owns a first hop sees the client's address. With a fresh one for each circuit an
/// adversary with a share `s` of the weight is met for certain in the end; with pinned ones a
/// client meets it with about `s` for each guard drawn (Tor guard-spec; proposals 236 and 271). So
/// what counts is how many are drawn, and that is bounded: [`Self::MAX_SAMPLES`].
///
/// The order of the set is the order of preference. All circuits of a client begin at the first
/// guard that is listed, fits the destination and is not being left alone after a failure; one
/// that is preferred is taken again as soon as it answers. One that expires or is lost goes, the
/// others move up, and the one drawn anew comes last.
///
/// A guard is judged by its own failures alone, those of hop 0 ([`Self::failed`]). What happens
/// further along is never weighed, neither against it nor for it: who can break circuits behind a
/// guard could otherwise drive clients away from it. The price is that a guard which breaks all
/// circuits but those that suit it (path bias) is not found out.
///
/// The record, `[version, client, [guard...], [day...]]`, is to be stored sealed whenever it has
/// changed, before the circuit is built, or a crash draws again. It knows days, no times.
/// What failed is not in it: after a restart every guard counts as reachable. Whoever sets the
/// client's clock forward by months makes its guards expire; a clock set back changes nothing.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct GuardSet {
    #[cbor(n(0), decode_with = "decode_version")]
    version: u8,
    #[n(1)]
    client: NodeId,
    #[cbor(n(2), decode_with = "decode_pinned::<Guard, _, { GuardSet::SIZE }>")]
    guards: Vec<Guard>,
    /// When guards were drawn, as far back as [`Self::SAMPLE_PERIOD_DAYS`].
    #[cbor(n(3), decode_with = "decode_samples")]
    samples: Vec<Day>,
}

impl GuardSet {
    /// Guards of a client: two primary ones, so that two legs of a multipath need not share one,
    /// and a backup.
    pub const SIZE: usize = 3;
    /// Shortest time for which a guard is kept after its first use, in days (guard-spec,
    /// `GUARD_CONFIRMED_MIN_LIFETIME`).
    pub const MIN_LIFETIME_DAYS: u8 = 60;
    /// Longest, in days (guard-spec, `GUARD_LIFETIME`). Random between the two, so that nobody
    /// knows when a client draws.
    pub const MAX_LIFETIME_DAYS: u8 = 120;
    /// Days without a descriptor, or with failures and no answer, after which a guard is replaced
    /// (guard-spec, `REMOVE_UNLISTED_GUARDS_AFTER`). Against who suppresses a guard or its
    /// descriptors for a while in order to be drawn next.
    pub const LOST_AFTER_DAYS: u8 = 20;
    /// Most guards drawn in [`Self::SAMPLE_PERIOD_DAYS`]: what three guards need that all expire
    /// as early as they can. Against who suppresses guards again and again until one is its own.
    pub const MAX_SAMPLES: usize = 9;
    /// Days for which a drawn guard counts.
    pub const SAMPLE_PERIOD_DAYS: u32 = 180;
    /// Wait after the first failure; it doubles with each further one. Up to half of it is added
    /// at random, so that clients do not come back in step (Tor proposal 336).
    pub const MIN_RETRY: Duration = Duration::from_secs(30);
    /// Longest wait before the random part. Short, as nothing else may take a guard's place.
    pub const MAX_RETRY: Duration = Duration::from_secs(30 * 60);

    /// An empty set of this client. Guards are drawn when the first path is asked for; the caller
    /// waits until the mesh's descriptors have arrived, as who supplies the first few supplies the
    /// guards.
    #[must_use]
    pub const fn new(client: NodeId) -> Self {
        Self { version: VERSION, client, guards: Vec::new(), samples: Vec::new() }
    }

    /// Whose guards they are.
    #[must_use]
    pub const fn client(&self) -> NodeId {
        self.client
    }

    /// The guards, best first. A caller that only reaches neighbours keeps links to them.
    pub fn guards(&self) -> impl Iterator<Item = NodeId> {
        self.guards.iter().map(|guard| guard.place.relay)
    }

    /// How many were drawn in the [`Self::SAMPLE_PERIOD_DAYS`] before `now`.
    #[must_use]
    pub fn sampled(&self, now: Timestamp) -> usize {
        self.recent(Day::of(now)).count()
    }

    /// Chooses a path that begins at a guard; the rest is as [`PathSelector::select`] chooses, and
    /// diverse against the guard.
    ///
    /// A destination that is a guard, or shares its operator or subnet under the rules, falls to
    /// another guard. As guards differ in both, it rules out two of the three at most, and never
    /// makes the client draw.
    ///
    /// The same arguments always choose the same path.
    ///
    /// # Errors
    /// [`GuardError`] says what lacks.
    pub fn path(
        &mut self,
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
        seed: [u8; 32],
    ) -> Result<Selection, GuardError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let guard = self.first_hops(selector, request, now, &mut rng)?.swap_remove(0);
        Ok(self.complete(&[guard], selector, request, now, &mut rng)?)
    }

    /// Chooses paths for the legs of a multipath. Each begins at another guard while there are
    /// enough that can be used, and beyond that they take turns; no other relay is in two legs.
    ///
    /// # Errors
    /// [`GuardError`] says what lacks.
    pub fn paths(
        &mut self,
        legs: usize,
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
        seed: [u8; 32],
    ) -> Result<Vec<Selection>, GuardError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let guards = self.first_hops(selector, request, now, &mut rng)?;
        let mut taken = request.exclude.to_vec();
        taken.extend(guards.iter().take(legs).map(|guard| guard.relay));
        let mut paths = Vec::with_capacity(legs);
        for guard in guards.iter().cycle().take(legs) {
            let exclude: Vec<NodeId> = taken.iter().filter(|&&relay| relay != guard.relay).copied().collect();
            let request = PathRequest { exclude: &exclude, ..*request };
            let path = self.complete(slice::from_ref(guard), selector, &request, now, &mut rng)?;
            taken.extend(path.relays.iter().skip(1).map(|relay| relay.relay));
            paths.push(path);
        }
        Ok(paths)
    }

    /// Tells that a circuit through the guard stands. From the first time on its lifetime counts.
    pub fn answered(&mut self, guard: &NodeId, now: Timestamp) {
        if let Some(guard) = self.entry(guard) {
            guard.answered(now);
        }
    }

    /// Tells that a circuit through the guard was not built or was lost, and which hop was blamed
    /// ([`Closed::blamed`](crate::Closed::blamed)). Only blame of hop 0 counts: the client's own
    /// link to it failed, or it did not answer in time.
    pub fn failed(&mut self, guard: &NodeId, blamed: Option<usize>, now: Timestamp, seed: [u8; 32]) {
        if let Some(guard) = self.entry(guard).filter(|_| blamed == Some(0)) {
            guard.failed(now, &mut ChaCha20Rng::from_seed(seed));
        }
    }

    /// Forgets that guards did not answer: the client's own network was down and is back.
    pub fn retry_all(&mut self) {
        self.guards.iter_mut().for_each(|guard| guard.retry = None);
    }

    /// The guards that a circuit may begin at, best first and at least one. Draws where some lack,
    /// regardless of the destination.
    pub(crate) fn first_hops(
        &mut self,
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
        rng: &mut ChaCha20Rng,
    ) -> Result<Vec<RelayDescriptor>, GuardError> {
        // First, so that no guards are drawn from the few relays that a new client knows.
        let exclude = self.excluded(request);
        let open = Pool::new(selector.rules(), request.candidates.iter(), &exclude, now);
        open.check(request.hops.relays())?;
        let pool = Pool::new(selector.rules(), request.candidates.iter(), &[self.client], now);
        let day = Day::of(now);
        self.observe(selector, &pool, day);
        let mut reachable = pool.clone();
        if let Some(relays) = request.reachable {
            reachable.retain(relays);
        }
        self.renew(&reachable, day, rng);
        self.choose(selector, &pool, request, now)
    }

    /// The path that begins with these hops.
    pub(crate) fn complete(
        &self,
        start: &[RelayDescriptor],
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
        rng: &mut ChaCha20Rng,
    ) -> Result<Selection, PathError> {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let exclude = self.excluded(request);
        selector.select_after(start, request.candidates, &exclude, request.hops, now, seed)
    }

    fn excluded(&self, request: &PathRequest<'_>) -> Vec<NodeId> {
        [self.client, request.destination.relay].iter().chain(request.exclude).copied().collect()
    }

    fn entry(&mut self, relay: &NodeId) -> Option<&mut Guard> {
        self.guards.iter_mut().find(|guard| guard.place.relay == *relay)
    }

    /// Notes who is listed. A guard that moved beside another one counts as unlisted, so that it
    /// can push out nobody but itself.
    fn observe(&mut self, selector: &PathSelector, pool: &Pool<'_>, day: Day) {
        let rules = selector.rules();
        // A client that sees next to nobody has lost its mesh, not its guards.
        let sees_mesh = pool.len() > Self::SIZE;
        let mut places: Vec<Place> = self.guards.iter().map(|guard| guard.place).collect();
        for guard in &mut self.guards {
            let mut others = places.iter().filter(|other| other.relay != guard.place.relay);
            let listed = pool.get(&guard.place.relay).map(Place::from);
            let fits =
                |place: &Place| *place == guard.place || !others.any(|other| rules.conflict(place, other));
            match listed.filter(fits) {
                Some(place) => {
                    guard.place = place;
                    guard.unlisted = Missed::default();
                    places.retain(|other| other.relay != place.relay);
                    places.push(place);
                }
                None if sees_mesh => guard.unlisted.mark(day),
                None => {}
            }
        }
    }

    /// Lets the expired go, replaces the lost if another may be drawn, and fills the set.
    fn renew(&mut self, pool: &Pool<'_>, day: Day, rng: &mut ChaCha20Rng) {
        self.guards.retain(|guard| !guard.is_expired(day));
        loop {
            let lost = self.guards.iter().position(Guard::is_lost);
            if lost.is_none() && self.guards.len() >= Self::SIZE {
                return;
            }
            // Drawn beside the lost one, so that its operator does not take its place.
            let Some(drawn) = self.draw(pool, day, rng) else { return };
            if let Some(lost) = lost {
                self.guards.remove(lost);
            }
            self.guards.push(drawn);
        }
    }

    fn draw(&mut self, pool: &Pool<'_>, day: Day, rng: &mut ChaCha20Rng) -> Option<Guard> {
        self.samples = self.recent(day).collect();
        let mut pool = pool.clone();
        self.guards.iter().for_each(|guard| pool.leave_out(&guard.place));
        let relay = pool.draw(rng).filter(|_| self.samples.len() < Self::MAX_SAMPLES)?;
        self.samples.push(day);
        Some(Guard::new(relay, rng))
    }

    /// The days of draws that count; those in the future, after a clock went back, do.
    fn recent(&self, day: Day) -> impl Iterator<Item = Day> {
        self.samples.iter().copied().filter(move |sample| day < sample.plus(Self::SAMPLE_PERIOD_DAYS))
    }

    fn choose(
        &self,
        selector: &PathSelector,
        pool: &Pool<'_>,
        request: &PathRequest<'_>,
        now: Timestamp,
    ) -> Result<Vec<RelayDescriptor>, GuardError> {
        let listed: Vec<_> =
            self.guards.iter().filter_map(|guard| Some((guard, pool.find(&guard.place)?))).collect();
        if listed.is_empty() {
            return Err(self.none_listed(Day::of(now)));
        }
        let end = request.destination.into();
        let fits = |guard: &Guard| {
            !request.exclude.contains(&guard.place.relay) && !selector.rules().conflict(&guard.place, &end)
        };
        let fitting = || listed.iter().filter(|(guard, _)| fits(guard));
        let open = fitting().filter(|(guard, _)| guard.wait(now).is_none());
        let open: Vec<_> = open.map(|&(_, relay)| relay.clone()).collect();
        if open.is_empty() {
            let wait = fitting().filter_map(|(guard, _)| guard.wait(now)).min();
            return Err(wait.map_or(GuardError::Excluded, GuardError::Unreachable));
        }
        Ok(open)
    }

    fn none_listed(&self, day: Day) -> GuardError {
        let full = self.recent(day).count() >= Self::MAX_SAMPLES;
        match self.recent(day).min().filter(|_| full) {
            Some(oldest) => GuardError::Samples(oldest.plus(Self::SAMPLE_PERIOD_DAYS).start()),
            None => GuardError::Unlisted,
        }
    }
}

impl Wire for GuardSet {
    const MAX_BYTES: usize = 384;
}

impl fmt::Debug for GuardSet {
    /// Without the guards: a log is where nobody should find them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardSet").field("guards", &self.guards.len()).finish_non_exhaustive()
    }
}

fn decode_samples<C>(d: &mut Decoder<'_>, c: &mut C) -> Result<Vec<Day>, decode::Error> {
    let samples: Vec<Day> = d.decode_with(c)?;
    if samples.len() > GuardSet::MAX_SAMPLES {
        return Err(decode::Error::message("too many samples"));
    }
    Ok(samples)
}
