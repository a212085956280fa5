use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout};

use crate::circuit::LocalCircuitId;
use crate::conflux::config::{Config, ConfigError};
use crate::conflux::drive::Drive;
use crate::conflux::frame::{Hello, Refusal};
use crate::conflux::registry::{Admission, Registry, SessionKey};
use crate::conflux::session::Session;
use crate::conflux::stream::{ConfluxStream, Shared};
use crate::link::{ByteLink, IncomingStream};

/// How long a leg may take for its first frame, and to hear that it is refused.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Legs of one circuit that have not sent their first frame; the next one is dropped. Against clients that only
/// open streams.
const MAX_GREETING: usize = 4;
/// The same of all circuits.
const MAX_GREETING_IN_ALL: usize = 1024;

/// A leg whose first frame is read.
type Greeted = (Hello, Box<dyn ByteLink>);

/// A session that lives: where its legs go, and its bytes are.
struct Living {
    legs: Sender<Greeted>,
    shared: Arc<Shared>,
}

/// The server's end: takes the streams of one port and makes those that belong together one.
#[derive(Clone)]
pub struct ConfluxServer {
    inner: Arc<Inner>,
}

/// The streams that clients open.
#[derive(Debug)]
pub struct Accepted {
    streams: Receiver<ConfluxStream>,
}

impl Accepted {
    /// Streams that wait to be taken; the next one is refused.
    pub const MAX_WAITING: usize = 64;

    /// Waits for the next stream; `None` once the last [`ConfluxServer`] is dropped and its sessions are over.
    pub async fn recv(&mut self) -> Option<ConfluxStream> {
        self.streams.recv().await
    }
}

struct Inner {
    config: Config,
    started: Instant,
    table: Mutex<Table>,
    /// Bytes held for all sessions.
    held: AtomicUsize,
    accepted: Sender<ConfluxStream>,
}

struct Table {
    registry: Registry,
    sessions: BTreeMap<SessionKey, Living>,
    /// Legs by circuit that have not sent their first frame.
    greeting: BTreeMap<LocalCircuitId, usize>,
}

impl Table {
    fn greet(&mut self, circuit: LocalCircuitId) -> bool {
        let all: usize = self.greeting.values().sum();
        let count = self.greeting.get(&circuit).copied().unwrap_or_default();
        let is_welcome = count < MAX_GREETING && all < MAX_GREETING_IN_ALL;
        if is_welcome {
            self.greeting.insert(circuit, count + 1);
        }
        is_welcome
    }

    fn greeted(&mut self, circuit: LocalCircuitId) {
        match self.greeting.get_mut(&circuit) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.greeting.remove(&circuit)),
        }
    }
}

impl ConfluxServer {
    /// One without sessions.
    ///
    /// # Errors
    /// [`ConfigError`] if the limits do not work together.
    pub fn new(config: Config) -> Result<(Self, Accepted), ConfigError> {
        let table =
            Table { registry: Registry::new(&config)?, sessions: BTreeMap::new(), greeting: BTreeMap::new() };
        let (accepted, streams) = channel(Accepted::MAX_WAITING);
        let inner = Inner {
            config,
            started: Instant::now(),
            table: Mutex::new(table),
            held: AtomicUsize::new(0),
            accepted,
        };
        Ok((Self { inner: Arc::new(inner) }, Accepted { streams }))
    }

    /// Takes a stream that a client opened, as a leg of a session that is there or begins. On a tokio runtime.
    pub fn take(&self, incoming: IncomingStream) {
        let IncomingStream { stream, circuit, .. } = incoming;
        if !self.inner.lock().greet(circuit) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let greeted = timeout(HELLO_TIMEOUT, greet(Box::new(stream))).await;
            inner.lock().greeted(circuit);
            let Ok(Some((hello, stream))) = greeted else { return };
            let Err((refusal, mut stream)) = inner.admit(circuit, hello, stream) else { return };
            let answer = async {
                stream.write_all(&refusal.to_bytes()).await?;
                stream.shutdown().await
            };
            // Whoever does not read it learns nothing.
            let _ = timeout(HELLO_TIMEOUT, answer).await;
        });
    }
}

/// Reads the first frame of a leg.
async fn greet(mut stream: Box<dyn ByteLink>) -> Option<Greeted> {
    let mut hello = [0; Hello::BYTES];
    stream.read_exact(&mut hello).await.ok()?;
    Some((Hello::read(&hello).ok()?, stream))
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while holding it leaves whole entries.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn admit(
        self: &Arc<Self>,
        circuit: LocalCircuitId,
        hello: Hello,
        stream: Box<dyn ByteLink>,
    ) -> Result<(), (Refusal, Box<dyn ByteLink>)> {
        let mut table = self.lock();
        match table.registry.admit(self.now(), circuit, &hello) {
            Err(refusal) => Err((refusal, stream)),
            Ok(Admission::Join(key)) => {
                let Some(session) = table.sessions.get(&key) else { return Err((Refusal::Unknown, stream)) };
                session.legs.try_send((hello, stream)).map_err(|error| (Refusal::Legs, error.into_inner().1))
            }
            Ok(Admission::New(key)) => {
                let Ok(place) = self.accepted.try_reserve() else {
                    table.registry.ended(self.now(), key);
                    return Err((Refusal::Sessions, stream));
                };
                let Ok(session) = Session::accept(&self.config, self.now()) else {
                    table.registry.ended(self.now(), key);
                    return Err((Refusal::Sessions, stream));
                };
                let shared = Shared::new(session, self.started, true);
                let (legs, queue) = channel(Config::MAX_LEGS);
                table.sessions.insert(key, Living { legs, shared: Arc::clone(&shared) });
                drop(table);
                let mut drive = Drive::new(Arc::clone(&shared));
                drive.add(stream, Some(&hello));
                place.send(ConfluxStream::new(shared));
                let inner = Arc::clone(self);
                tokio::spawn(async move {
                    inner.run(drive, queue).await;
                    let mut table = inner.lock();
                    table.registry.ended(inner.now(), key);
                    table.sessions.remove(&key);
                });
                Ok(())
            }
        }
    }

    /// Drives a session to its end.
    async fn run(&self, mut drive: Drive, mut queue: Receiver<Greeted>) {
        let mut held = 0;
        poll_fn(|cx| {
            loop {
                let is_over = drive.poll(cx).is_ready();
                drive.events.clear();
                let holds = if is_over { 0 } else { drive.shared().lock().session.held_bytes() };
                self.book(&mut held, holds);
                if is_over {
                    return Poll::Ready(());
                }
                match queue.poll_recv(cx) {
                    Poll::Ready(Some((hello, stream))) => drive.add(stream, Some(&hello)),
                    // The table holds the other end until this is over.
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                };
            }
        })
        .await;
    }

    /// Books what a session holds now and held before. Ends the one that holds most while all hold too much.
    fn book(&self, before: &mut usize, holds: usize) {
        let freed = core::mem::replace(before, holds);
        self.held.fetch_add(holds, Ordering::Relaxed);
        let held = self.held.fetch_sub(freed, Ordering::Relaxed) - freed;
        if held <= self.config.memory_bytes {
            return;
        }
        let living: Vec<_> = self.lock().sessions.values().map(|living| Arc::clone(&living.shared)).collect();
        if let Some(greatest) = living.iter().max_by_key(|shared| shared.lock().session.held_bytes()) {
            tracing::debug!("a session is ended: all of them hold {held} bytes");
            let mut state = greatest.lock();
            state.session.overload();
            state.wake_driver();
        }
    }
}

impl fmt::Debug for ConfluxServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfluxServer")
            .field("sessions", &self.inner.lock().sessions.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_fills_no_hall() {
        let registry = Registry::new(&Config::default()).unwrap();
        let mut table = Table { registry, sessions: BTreeMap::new(), greeting: BTreeMap::new() };
        let circuits = MAX_GREETING_IN_ALL as u64 / MAX_GREETING as u64;
        for circuit in (0..circuits).map(LocalCircuitId) {
            assert!((0..MAX_GREETING).all(|_| table.greet(circuit)));
            assert!(!table.greet(circuit));
        }
        let other = LocalCircuitId(circuits);
        assert!(!table.greet(other));
        table.greeted(LocalCircuitId(0));
        assert!(table.greet(other) && !table.greet(LocalCircuitId(0)));
        (0..3).for_each(|_| table.greeted(LocalCircuitId(0)));
        table.greeted(other);
        assert_eq!(table.greeting.len() as u64, circuits - 1, "who has left is forgotten");
    }
}
