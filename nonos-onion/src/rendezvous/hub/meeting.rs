use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::link::ByteLink;
use crate::rendezvous::handshake::COOKIE_BYTES;
use crate::rendezvous::hub::splice::splice;
use crate::rendezvous::hub::{Hub, HubError, Place};

/// Bytes that are read from whoever waits, to notice that it left.
const EARLY_BYTES: usize = 2048;

/// Somebody with a cookie.
pub(super) struct Waiting {
    number: u64,
    other: oneshot::Sender<Guest>,
}

/// The second one with a cookie, on its way to the first.
struct Guest {
    stream: Box<dyn ByteLink>,
    _place: Place,
}

impl Hub {
    /// The stream of a client or of a service; which of the two comes first does not matter.
    pub(super) async fn rendezvous(
        &self,
        mut stream: Box<dyn ByteLink>,
        place: Place,
    ) -> Result<(), HubError> {
        let cookie: [u8; COOKIE_BYTES] = self.read(&mut stream).await?;
        let (stand, other) = match self.meet(cookie)? {
            Meeting::Second(waiting) => {
                // Whom the first one takes along, unless it left this moment.
                return waiting.other.send(Guest { stream, _place: place }).map_err(|_| HubError::Timeout);
            }
            Meeting::First(stand, other) => (stand, other),
        };
        let mut early = vec![0; EARLY_BYTES];
        let (guest, count) = timeout(self.0.limits.wait, wait(&mut stream, &mut early, other))
            .await
            .map_err(|_| HubError::Timeout)??;
        drop(stand);
        early.truncate(count);
        let limits = &self.0.limits;
        splice(stream, early, guest.stream, limits).await
    }

    fn meet(&self, cookie: [u8; COOKIE_BYTES]) -> Result<Meeting, HubError> {
        let mut state = self.state();
        if let Some(waiting) = state.waiting.remove(&cookie) {
            return Ok(Meeting::Second(waiting));
        }
        if state.waiting.len() >= self.0.limits.cookies {
            return Err(HubError::Full("cookies"));
        }
        let (other, arrival) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(cookie, Waiting { number, other });
        drop(state);
        Ok(Meeting::First(Stand { hub: self.clone(), cookie, number }, arrival))
    }
}

enum Meeting {
    First(Stand, oneshot::Receiver<Guest>),
    Second(Waiting),
}

/// Waits for the second one. Yields it and how many bytes came from the first one until then.
async fn wait(
    stream: &mut Box<dyn ByteLink>,
    early: &mut [u8],
    mut other: oneshot::Receiver<Guest>,
) -> Result<(Guest, usize), HubError> {
    let count = tokio::select! {
        guest = &mut other => return guest.map(|guest| (guest, 0)).map_err(|_| HubError::Timeout),
        count = stream.read(early) => count.map_err(|error| HubError::Stream(error.kind()))?,
    };
    if count == 0 {
        return Err(HubError::Stream(std::io::ErrorKind::UnexpectedEof));
    }
    other.await.map(|guest| (guest, count)).map_err(|_| HubError::Timeout)
}

/// The place of a cookie, as long as its first bearer waits.
struct Stand {
    hub: Hub,
    cookie: [u8; COOKIE_BYTES],
    number: u64,
}

impl Drop for Stand {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if state.waiting.get(&self.cookie).is_some_and(|waiting| waiting.number == self.number) {
            state.waiting.remove(&self.cookie);
        }
    }
}
