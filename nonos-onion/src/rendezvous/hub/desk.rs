use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nonos_identity::{Digest, PublicKey};
use tokio::io::{AsyncReadExt as _, ReadHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::link::ByteLink;
use crate::rendezvous::frame::{
    Answer, CHALLENGE_BYTES, ESTABLISHED, Establish, FrameError, GRANT, INTRODUCE_BYTES, Introduce,
};
use crate::rendezvous::handshake::Sealed;
use crate::rendezvous::hub::{Hub, HubError, HubLimits};
use crate::rendezvous::puzzle;

/// Introductions that a service may have asked for and not got. Against one that counts up without end.
const MAX_CREDIT: usize = 64;
/// Requests on one stream of a client: one without work, and some after others outbid it.
const MAX_REQUESTS: usize = 4;
/// Length of what a hub keeps of the name of an introduction.
const NAME_BYTES: usize = 16;

/// Where the introductions to one service wait.
pub(super) struct Desk {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    /// The most effort first, then the oldest.
    entries: BTreeMap<(Reverse<puzzle::Effort>, u64), Entry>,
    next: u64,
    /// Introductions that the service takes now.
    credit: usize,
    known: BTreeSet<[u8; NAME_BYTES]>,
    closed: bool,
}

struct Entry {
    sealed: Sealed,
    name: [u8; NAME_BYTES],
    answer: oneshot::Sender<Answer>,
}

impl Desk {
    /// A new desk, with what waits at the one in whose place it comes.
    fn new(replaced: Option<&Self>) -> Arc<Self> {
        let mut queue = Queue::default();
        if let Some(replaced) = replaced {
            let mut old = replaced.queue();
            queue.entries = core::mem::take(&mut old.entries);
            queue.known = core::mem::take(&mut old.known);
            queue.next = old.next;
            old.closed = true;
            replaced.changed.notify_one();
        }
        Arc::new(Self { queue: Mutex::new(queue), changed: Notify::new() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue().entries.len()
    }

    /// Queues an introduction. The one with the least effort, or this one, has to go if there are too many.
    fn put(
        &self,
        limits: &HubLimits,
        request: Introduce,
        name: &Digest,
    ) -> Result<oneshot::Receiver<Answer>, Answer> {
        let name = *name.as_bytes().first_chunk().ok_or(Answer::Unknown)?;
        let mut queue = self.queue();
        if queue.closed {
            return Err(Answer::Unknown);
        }
        if queue.known.len() >= limits.known {
            queue.known.clear();
        }
        if queue.known.contains(&name) {
            return Err(Answer::Repeated);
        }
        if queue.entries.len() >= limits.queue {
            let Some(last) = queue.entries.last_entry() else {
                return Err(Answer::Busy(puzzle::Effort::LEAST));
            };
            let Reverse(least) = last.key().0;
            if request.effort <= least {
                return Err(Answer::Busy(least.above()));
            }
            let outbid = last.remove();
            queue.known.remove(&outbid.name);
            let _ = outbid.answer.send(Answer::Busy(request.effort.above()));
        }
        queue.known.insert(name);
        let (answer, answered) = oneshot::channel();
        let key = (Reverse(request.effort), queue.next);
        queue.next += 1;
        queue.entries.insert(key, Entry { sealed: request.sealed, name, answer });
        drop(queue);
        self.changed.notify_one();
        Ok(answered)
    }

    /// The next introduction, once the service takes one; `None` once the service is established anew.
    async fn take(&self) -> Option<Entry> {
        loop {
            {
                let mut queue = self.queue();
                if queue.closed {
                    return None;
                }
                if queue.credit > 0 {
                    // Nobody waits for the answer any more if the client has left.
                    while let Some((_, entry)) = queue.entries.pop_first() {
                        if !entry.answer.is_closed() {
                            queue.credit -= 1;
                            return Some(entry);
                        }
                    }
                }
            }
            self.changed.notified().await;
        }
    }

    fn grant(&self) -> Result<(), HubError> {
        let mut queue = self.queue();
        if queue.credit >= MAX_CREDIT {
            return Err(HubError::Credit);
        }
        queue.credit += 1;
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets everybody go who waits here.
    fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        // Their senders go, which is how the clients' streams learn.
        queue.entries.clear();
        drop(queue);
        self.changed.notify_one();
    }
}

impl Hub {
    /// The stream of a service.
    pub(super) async fn establish(&self, mut stream: impl ByteLink + 'static) -> Result<(), HubError> {
        let challenge: [u8; CHALLENGE_BYTES] = *self.0.draw.seed();
        self.write(&mut stream, &challenge).await?;
        let establish = Establish::read(&self.read(&mut stream).await?)?;
        let auth_key = establish.check(&self.0.network, self.0.relay, &challenge)?;
        let seat = self.seat(auth_key)?;
        self.write(&mut stream, &[ESTABLISHED]).await?;
        let (reader, mut writer) = tokio::io::split(stream);
        let introductions = async {
            while let Some(entry) = seat.desk.take().await {
                self.write(&mut writer, &entry.sealed[..]).await?;
                let _ = entry.answer.send(Answer::Passed);
            }
            Ok(())
        };
        tokio::select! {
            ended = introductions => ended,
            ended = grants(&seat.desk, reader) => ended,
        }
    }

    /// A desk for a service, in place of the one that it may have: it comes with a new circuit before the
    /// old one ends.
    fn seat(&self, auth_key: PublicKey) -> Result<Seat, HubError> {
        let mut state = self.state();
        let key = *auth_key.as_bytes();
        if state.desks.len() >= self.0.limits.services && !state.desks.contains_key(&key) {
            return Err(HubError::Full("services"));
        }
        let desk = Desk::new(state.desks.get(&key).map(|replaced| &**replaced));
        state.desks.insert(key, Arc::clone(&desk));
        drop(state);
        Ok(Seat { hub: self.clone(), key, desk })
    }

    /// The stream of a client.
    pub(super) async fn introduce(&self, mut stream: impl ByteLink + 'static) -> Result<(), HubError> {
        for _ in 0..MAX_REQUESTS {
            let request = Introduce::read(&self.read::<INTRODUCE_BYTES>(&mut stream).await?)?;
            let answer = self.pass_on(request).await?;
            self.write(&mut stream, &answer.write()).await?;
            if !matches!(answer, Answer::Busy(_)) {
                break;
            }
        }
        self.in_time(tokio::io::AsyncWriteExt::shutdown(&mut stream)).await
    }

    async fn pass_on(&self, request: Introduce) -> Result<Answer, HubError> {
        let desk = self.state().desks.get(&request.auth_key).cloned();
        // A key that is not admitted has no desk.
        let Some((desk, key)) = desk.zip(PublicKey::admit(&request.auth_key).ok()) else {
            return Ok(Answer::Unknown);
        };
        let name = puzzle::name(&key, &request.sealed[..]);
        if !puzzle::is_solved(&name, request.effort, request.nonce) {
            return Err(FrameError::Effort(request.effort.bits()).into());
        }
        match desk.put(&self.0.limits, request, &name) {
            Err(answer) => Ok(answer),
            Ok(answered) => match timeout(self.0.limits.wait, answered).await {
                Ok(answer) => Ok(answer.unwrap_or(Answer::Unknown)),
                Err(_) => Ok(Answer::Busy(puzzle::Effort::LEAST)),
            },
        }
    }
}

/// Counts what the service asks for, until it ends its half.
async fn grants(desk: &Desk, mut reader: ReadHalf<impl ByteLink>) -> Result<(), HubError> {
    let mut asked = [0; MAX_CREDIT];
    loop {
        let count = reader.read(&mut asked).await.map_err(|error| HubError::Stream(error.kind()))?;
        if count == 0 {
            return Ok(());
        }
        for &byte in asked.get(..count).unwrap_or_default() {
            if byte != GRANT {
                return Err(FrameError::Code(byte).into());
            }
            desk.grant()?;
        }
    }
}

/// A service's desk, as long as its stream is there.
struct Seat {
    hub: Hub,
    key: [u8; 32],
    desk: Arc<Desk>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.close();
        let mut state = self.hub.state();
        if state.desks.get(&self.key).is_some_and(|desk| Arc::ptr_eq(desk, &self.desk)) {
            state.desks.remove(&self.key);
        }
    }
}
