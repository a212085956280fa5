use core::future::pending;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use nonos_identity::{Epoch, SigningKey, StaticSecret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use crate::circuit::OpenError;
use crate::link::OnionStream;
use crate::rendezvous::circuits::{CircuitError, Purpose};
use crate::rendezvous::frame::{CHALLENGE_BYTES, ESTABLISHED, Establish, GRANT};
use crate::rendezvous::handshake::{Context, INTRODUCTION_BYTES, RelayHint, Responder, Sealed, ephemeral};
use crate::rendezvous::host::{CLOCK_CHECK, Event, Shared, Visit};
use crate::rendezvous::ports;
use crate::rendezvous::stream::ServiceStream;
use crate::service::{PeriodKeys, TimePeriod};

/// Introductions that one point answers at a time. Against strangers who have the service build circuits:
/// the rest waits at the hub, by effort.
const MAX_ANSWERING: usize = 8;
/// Introductions that one point takes in its life, replays not counted. Bounds the exact set by which they
/// are known, 16 bytes each: it never forgets, another point with other keys takes this one's place
/// (rend-spec-v3, section 4.1.1, has the same number).
const MAX_INTRODUCTIONS: usize = 16_384;
const REPLAY_BYTES: usize = 16;
/// Time to establish a point, and to answer an introduction.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts until another relay takes the place of this one.
const MAX_FAILURES: u32 = 4;
/// Latest moment of an epoch at which a point takes a new circuit, in seconds, half of the grace of the old one. At
/// random, so that not all points of all services come at once.
const MAX_DELAY_SECS: usize = 30;
/// Pause after the first failure; it doubles with each further one.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// Why a step towards a client or a hub failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Circuit(#[from] CircuitError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Stream(#[from] io::Error),
}

impl From<io::ErrorKind> for StepError {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Stream(kind.into())
    }
}

/// One introduction point, over all its circuits.
pub(super) struct Point {
    shared: Arc<Shared>,
    number: u64,
    relay: RelayHint,
    auth: SigningKey,
    encryption: StaticSecret,
    /// When in an epoch it takes a new circuit.
    delay: Duration,
    /// The ephemeral keys of all introductions that were taken.
    seen: BTreeSet<[u8; REPLAY_BYTES]>,
    answering: JoinSet<()>,
}

/// A stream to the hub.
struct Link {
    /// The epoch of its circuit.
    epoch: Epoch,
    introductions: Receiver<Sealed>,
    grants: WriteHalf<OnionStream>,
    /// Ends with it.
    _reader: JoinSet<()>,
}

impl Point {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u64,
        relay: RelayHint,
        auth: SigningKey,
        encryption: StaticSecret,
    ) -> Self {
        let (seen, answering) = (BTreeSet::new(), JoinSet::new());
        let delay = Duration::from_secs(shared.draw.below(MAX_DELAY_SECS) as u64);
        Self { shared, number, relay, auth, encryption, delay, seen, answering }
    }

    pub(super) async fn run(mut self) {
        let (number, events) = (self.number, self.shared.events.clone());
        let _ = self.serve().await;
        let _ = events.send(Event::Gone(number)).await;
    }

    /// Serves until the point is used up, or its relay cannot be reached.
    async fn serve(&mut self) -> Option<()> {
        let mut link = self.establish_or_give_up().await?;
        let mut check = tokio::time::interval(CLOCK_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The last one, for what was on its way when the new one came.
        let mut retired: Option<Link> = None;
        while self.seen.len() < MAX_INTRODUCTIONS {
            tokio::select! {
                introduction = link.introductions.recv() => match introduction {
                    Some(sealed) => self.take(&sealed, &mut link).await,
                    None => {
                        self.say(Event::Down(self.number)).await;
                        link = self.establish_or_give_up().await?;
                    }
                },
                introduction = next_of(&mut retired) => match introduction {
                    Some(sealed) => self.take(&sealed, &mut link).await,
                    None => retired = None,
                },
                Some(_) = self.answering.join_next() => link.grant(1).await,
                _ = check.tick() => {
                    let now = self.shared.now();
                    if link.epoch != Epoch::at(now)
                        && now >= Epoch::at(now).start().saturating_add(self.delay)
                        && let Ok(next) = self.establish().await
                    {
                        retired = Some(core::mem::replace(&mut link, next));
                    }
                }
            }
        }
        Some(())
    }

    async fn say(&self, event: Event) {
        // A host that has stopped takes this task along.
        let _ = self.shared.events.send(event).await;
    }

    async fn establish_or_give_up(&self) -> Option<Link> {
        for failures in 0..MAX_FAILURES {
            match self.establish().await {
                Ok(link) => {
                    self.say(Event::Up(self.number)).await;
                    return Some(link);
                }
                Err(StepError::Circuit(CircuitError::UnknownRelay)) => {
                    // The next relay may be unknown too, and so on.
                    tokio::time::sleep(MIN_PAUSE).await;
                    return None;
                }
                Err(error) => tracing::debug!(%error, "an introduction point was not established"),
            }
            tokio::time::sleep(MIN_PAUSE * 2_u32.pow(failures)).await;
        }
        None
    }

    async fn establish(&self) -> Result<Link, StepError> {
        timeout(STEP_TIMEOUT, self.try_establish()).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn try_establish(&self) -> Result<Link, StepError> {
        let Shared { environment, .. } = &*self.shared;
        let epoch = Epoch::at(self.shared.now());
        let circuit = environment.circuits.build(self.relay, Purpose::Establish).await?;
        let mut stream = circuit.open_early(ports::ESTABLISH).await?;
        let mut challenge = [0; CHALLENGE_BYTES];
        stream.read_exact(&mut challenge).await?;
        let establish = Establish::sign(&self.auth, &environment.network, self.relay.relay, &challenge);
        stream.write_all(&establish.write()).await?;
        if stream.read_u8().await? != ESTABLISHED {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (reader, grants) = tokio::io::split(stream);
        let (sender, introductions) = mpsc::channel(MAX_ANSWERING);
        let mut tasks = JoinSet::new();
        tasks.spawn(read_introductions(reader, sender));
        let mut link = Link { epoch, introductions, grants, _reader: tasks };
        link.grant(MAX_ANSWERING.saturating_sub(self.answering.len())).await;
        Ok(link)
    }

    /// Answers an introduction that opens and is no replay.
    async fn take(&mut self, sealed: &Sealed, link: &mut Link) {
        let Some(responder) = self.open(sealed) else { return link.grant(1).await };
        let (prefix, _) = ephemeral(sealed).split_first_chunk().expect("a key is longer than 16 bytes");
        if !self.seen.insert(*prefix) {
            return link.grant(1).await;
        }
        self.answering.spawn(answer(Arc::clone(&self.shared), responder));
    }

    /// Tries both periods of which clients may have a descriptor.
    fn open(&self, sealed: &Sealed) -> Option<Responder> {
        let Shared { environment, identity, draw, .. } = &*self.shared;
        let open = |period| {
            let keys = PeriodKeys::of(&environment.network, identity, period);
            let context = Context {
                network: &environment.network,
                relay: self.relay.relay,
                auth_key: &self.auth.public(),
                keys: &keys,
            };
            Responder::read(&context, &self.encryption, sealed, &draw.seed()).ok()
        };
        TimePeriod::published_at(self.shared.now()).into_iter().rev().find_map(open)
    }
}

impl Link {
    /// Asks for introductions. A link that is broken says so where it is read.
    async fn grant(&mut self, count: usize) {
        let _ = timeout(STEP_TIMEOUT, self.grants.write_all(&vec![GRANT; count])).await;
    }
}

async fn next_of(link: &mut Option<Link>) -> Option<Sealed> {
    match link {
        Some(link) => link.introductions.recv().await,
        None => pending().await,
    }
}

async fn read_introductions(mut reader: ReadHalf<OnionStream>, sender: Sender<Sealed>) {
    let mut sealed: Sealed = Box::new([0; INTRODUCTION_BYTES]);
    while reader.read_exact(&mut *sealed).await.is_ok() {
        if sender.send(sealed.clone()).await.is_err() {
            return;
        }
    }
}

/// Goes where the client waits. What fails, fails without a word: the client may be anybody.
async fn answer(shared: Arc<Shared>, responder: Responder) {
    let meet = async {
        let introduction = responder.introduction().clone();
        let circuit = shared.environment.circuits.build(introduction.rendezvous, Purpose::Meet).await?;
        let mut stream = circuit.open_early(ports::RENDEZVOUS).await?;
        let (reply, noise) = responder.reply().map_err(|_| io::ErrorKind::InvalidData)?;
        stream.write_all(&[&introduction.cookie[..], &reply[..]].concat()).await?;
        let stream = ServiceStream::new(Box::new(stream), noise);
        // Waits while the service takes no visits; so do the introductions at the hub.
        let visit = Visit { port: introduction.port, stream };
        shared.visits.send(visit).await.map_err(|_| StepError::from(io::ErrorKind::BrokenPipe))
    };
    let met = timeout(STEP_TIMEOUT, meet).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    if let Err(error) = met {
        tracing::debug!(%error, "an introduction came to nothing");
    }
}
