use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::bitmap::Bitmap;

/// One provider, numbered by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u64);

/// How a fetch behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Requests in flight per provider at the start.
    pub window_start: u32,
    /// Most requests in flight per provider; bounds the bytes in flight.
    pub window_max: u32,
    /// Most providers used at once.
    pub max_providers: usize,
    /// Time for one chunk; then it is asked of another provider.
    pub timeout: Duration,
    /// Timeouts in a row after which a provider is dropped; stops black holes.
    pub max_timeouts: u32,
    /// Remaining chunks at which idle providers are asked a second time.
    pub endgame_chunks: usize,
    /// Most chunks of one fetch; bounds the bookkeeping a manifest can ask for.
    pub max_chunks: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_start: 2,
            window_max: 32,
            max_providers: 6,
            timeout: Duration::from_secs(15),
            max_timeouts: 3,
            endgame_chunks: 6,
            max_chunks: 65_536,
        }
    }
}

/// A fetch that cannot start. The caller's fault, or the manifest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// More chunks than configured.
    #[error("{count} chunks exceed the limit of {limit}")]
    TooMany {
        /// Chunks of the capsule.
        count: u32,
        /// [`Config::max_chunks`].
        limit: u32,
    },
    /// The resume map is of another number of chunks.
    #[error("resume map is of another number of chunks")]
    Resume,
}

/// What the application tells the fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// The deadline passed.
    Tick,
    /// A provider can be asked.
    ProviderUp {
        /// Which.
        provider: ProviderId,
        /// What it holds, `None` for everything as far as is known.
        have: Option<Bitmap>,
    },
    /// A provider is gone; its chunks are asked of others.
    ProviderDown {
        /// Which.
        provider: ProviderId,
    },
    /// A provider sent a chunk.
    Chunk {
        /// Which provider.
        provider: ProviderId,
        /// Position of the chunk.
        index: u32,
        /// Its bytes, not yet checked.
        bytes: Vec<u8>,
    },
    /// A provider does not hold a chunk or has no capacity for it.
    Refused {
        /// Which provider.
        provider: ProviderId,
        /// Position of the chunk.
        index: u32,
    },
    /// The chunk of an [`Output::Verify`] is right and written.
    Verified {
        /// Position of the chunk.
        index: u32,
    },
    /// The chunk of an [`Output::Verify`] is wrong.
    Invalid {
        /// Who sent it.
        provider: ProviderId,
        /// Position of the chunk.
        index: u32,
    },
}

/// What the fetch asks of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Asks a provider for a chunk.
    Request {
        /// Which provider.
        provider: ProviderId,
        /// Position of the chunk.
        index: u32,
    },
    /// A request is no longer needed; ignoring this is fine.
    Cancel {
        /// Which provider.
        provider: ProviderId,
        /// Position of the chunk.
        index: u32,
    },
    /// Checks a chunk against the manifest; answer [`Input::Verified`] or [`Input::Invalid`].
    Verify {
        /// Who sent it.
        provider: ProviderId,
        /// Position of the chunk.
        index: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A provider sent a wrong chunk or none for too long; it is not asked again.
    Banned {
        /// Which.
        provider: ProviderId,
    },
    /// Every chunk is verified.
    Done,
}

#[derive(Debug)]
struct Provider {
    have: Option<Bitmap>,
    refused: BTreeSet<u32>,
    /// Deadlines of the requests in flight.
    in_flight: BTreeMap<u32, Duration>,
    window: u32,
    timeouts: u32,
}

impl Provider {
    fn has(&self, index: u32) -> bool {
        !self.refused.contains(&index) && self.have.as_ref().is_none_or(|have| have.contains(index))
    }

    fn is_free(&self) -> bool {
        self.in_flight.len() < self.window as usize
    }
}

/// The fetch of one capsule.
#[derive(Debug)]
pub struct Fetch {
    config: Config,
    id: Vec<u8>,
    done: Bitmap,
    finished: bool,
    /// Chunks nobody is asked for: (how many hold it, random order, position).
    todo: BTreeSet<(u32, u32, u32)>,
    order: Vec<u32>,
    checking: BTreeSet<u32>,
    providers: BTreeMap<ProviderId, Provider>,
    banned: BTreeSet<ProviderId>,
    outputs: VecDeque<Output>,
}

impl Fetch {
    /// A fetch of `chunks` chunks of the item `id`, none of them held yet.
    ///
    /// # Errors
    /// [`FetchError::TooMany`].
    pub fn new(config: Config, id: &[u8], chunks: u32, seed: [u8; 32]) -> Result<Self, FetchError> {
        Self::resume(config, id, chunks, Bitmap::none(chunks), seed)
    }

    /// Goes on where an earlier fetch stopped: `done` marks the verified chunks.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn resume(
        config: Config,
        id: &[u8],
        chunks: u32,
        done: Bitmap,
        seed: [u8; 32],
    ) -> Result<Self, FetchError> {
        if chunks > config.max_chunks {
            return Err(FetchError::TooMany { count: chunks, limit: config.max_chunks });
        }
        if done.len() != chunks {
            return Err(FetchError::Resume);
        }
        let mut rng = ChaCha8Rng::from_seed(seed);
        let order = (0..chunks).map(|_| rng.next_u32()).collect();
        let mut fetch = Self {
            config,
            id: id.to_vec(),
            done,
            finished: false,
            todo: BTreeSet::new(),
            order,
            checking: BTreeSet::new(),
            providers: BTreeMap::new(),
            banned: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        fetch.rank();
        fetch.finish();
        Ok(fetch)
    }

    /// The item being fetched.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// The verified chunks, to be kept for [`Self::resume`].
    #[must_use]
    pub const fn progress(&self) -> &Bitmap {
        &self.done
    }

    /// Providers in use.
    #[must_use]
    pub fn providers(&self) -> usize {
        self.providers.len()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.providers.values().flat_map(|p| p.in_flight.values()).min().copied()
    }

    /// The next thing to do, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::Tick => {}
            Input::ProviderUp { provider, have } => self.provider_up(provider, have),
            Input::ProviderDown { provider } => self.drop_provider(provider),
            Input::Chunk { provider, index, bytes } => self.chunk(provider, index, bytes),
            Input::Refused { provider, index } => {
                if let Some(p) = self.providers.get_mut(&provider)
                    && p.in_flight.remove(&index).is_some()
                {
                    p.refused.insert(index);
                    self.release(index);
                }
            }
            Input::Verified { index } => self.verified(index),
            Input::Invalid { provider, index } => {
                if self.checking.remove(&index) {
                    self.release(index);
                    self.ban(provider);
                }
            }
        }
        self.expire(now);
        self.schedule(now);
    }

    fn provider_up(&mut self, provider: ProviderId, have: Option<Bitmap>) {
        let fits = have.as_ref().is_none_or(|have| have.len() == self.done.len());
        let full =
            self.providers.len() >= self.config.max_providers && !self.providers.contains_key(&provider);
        if self.banned.contains(&provider) || full || !fits {
            return;
        }
        let window = self.config.window_start.clamp(1, self.config.window_max.max(1));
        let fresh = || Provider {
            have: None,
            refused: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            window,
            timeouts: 0,
        };
        let entry = self.providers.entry(provider).or_insert_with(fresh);
        entry.have = have;
        entry.refused.clear();
        self.rank();
    }

    fn chunk(&mut self, provider: ProviderId, index: u32, bytes: Vec<u8>) {
        let Some(p) = self.providers.get_mut(&provider) else { return };
        // A late answer still counts; bytes that were never asked for cost no check.
        let asked = p.in_flight.remove(&index).is_some();
        if !asked || self.done.contains(index) || self.checking.contains(&index) {
            return;
        }
        p.timeouts = 0;
        self.checking.insert(index);
        self.outputs.push_back(Output::Verify { provider, index, bytes });
    }

    fn verified(&mut self, index: u32) {
        if !self.checking.remove(&index) {
            return;
        }
        self.done.set(index);
        for (id, p) in &mut self.providers {
            if p.in_flight.remove(&index).is_some() {
                self.outputs.push_back(Output::Cancel { provider: *id, index });
            } else {
                p.window = p.window.saturating_add(1).min(self.config.window_max.max(1));
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        if self.done.is_full() && !self.finished {
            self.finished = true;
            self.outputs.push_back(Output::Done);
        }
    }

    fn ban(&mut self, provider: ProviderId) {
        self.drop_provider(provider);
        if self.banned.insert(provider) {
            self.outputs.push_back(Output::Banned { provider });
        }
    }

    fn drop_provider(&mut self, provider: ProviderId) {
        if self.providers.remove(&provider).is_some() {
            self.rank();
        }
    }

    /// Puts a chunk back if nobody else is asked for it.
    fn release(&mut self, index: u32) {
        let asked = self.providers.values().any(|p| p.in_flight.contains_key(&index));
        if !asked && !self.done.contains(index) && !self.checking.contains(&index) {
            self.todo.insert(self.rank_of(index));
        }
    }

    fn rank_of(&self, index: u32) -> (u32, u32, u32) {
        let holders = self.providers.values().filter(|p| p.has(index)).count();
        let order = self.order.get(index as usize).copied().unwrap_or_default();
        (u32::try_from(holders).unwrap_or(u32::MAX), order, index)
    }

    /// Ranks the open chunks again after the providers changed: the rarest first.
    fn rank(&mut self) {
        let busy: BTreeSet<u32> = self.providers.values().flat_map(|p| p.in_flight.keys()).copied().collect();
        let open = |i: &u32| !self.done.contains(*i) && !self.checking.contains(i) && !busy.contains(i);
        self.todo = (0..self.done.len()).filter(open).map(|i| self.rank_of(i)).collect();
    }

    fn expire(&mut self, now: Duration) {
        let mut late = Vec::new();
        for (id, p) in &mut self.providers {
            let indices: Vec<u32> =
                p.in_flight.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
            if indices.is_empty() {
                continue;
            }
            // One silent period is one timeout, however wide the window was.
            p.timeouts += 1;
            p.window = (p.window / 2).max(1);
            for index in &indices {
                p.in_flight.remove(index);
            }
            late.push((*id, indices, p.timeouts >= self.config.max_timeouts));
        }
        for (provider, indices, dead) in late {
            for index in indices {
                self.outputs.push_back(Output::Cancel { provider, index });
                self.release(index);
            }
            if dead {
                self.ban(provider);
            }
        }
    }

    /// Gives open chunks to the least loaded providers that hold them.
    fn schedule(&mut self, now: Duration) {
        if self.finished {
            return;
        }
        let at = now.saturating_add(self.config.timeout);
        loop {
            let mut free: Vec<_> = self.providers.iter().filter(|(_, p)| p.is_free()).collect();
            free.sort_by_key(|(id, p)| (p.in_flight.len(), p.timeouts, **id));
            let pick = |(id, p): &(&ProviderId, &Provider)| {
                self.todo.iter().find(|(_, _, i)| p.has(*i)).map(|entry| (**id, *entry))
            };
            let Some((provider, entry)) = free.iter().find_map(pick) else { break };
            self.todo.remove(&entry);
            self.request(provider, entry.2, at);
        }
        self.endgame(at);
    }

    fn endgame(&mut self, at: Duration) {
        let mut asked: BTreeMap<u32, usize> = BTreeMap::new();
        for index in self.providers.values().flat_map(|p| p.in_flight.keys()) {
            *asked.entry(*index).or_default() += 1;
        }
        if !self.todo.is_empty() || asked.len() > self.config.endgame_chunks {
            return;
        }
        for (index, count) in asked {
            let idle = self
                .providers
                .iter()
                .filter(|(_, p)| p.in_flight.is_empty() && p.has(index))
                .map(|(id, _)| *id)
                .next();
            if let (1, Some(provider)) = (count, idle) {
                self.request(provider, index, at);
            }
        }
    }

    fn request(&mut self, provider: ProviderId, index: u32, at: Duration) {
        if let Some(p) = self.providers.get_mut(&provider) {
            p.in_flight.insert(index, at);
            self.outputs.push_back(Output::Request { provider, index });
        }
    }
}
