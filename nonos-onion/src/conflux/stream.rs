use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::conflux::fault::{Fault, WriteError};
use crate::conflux::session::Session;

/// Bytes moved to a reader at a time.
const READ_BYTES: usize = 64 << 10;

/// What the application and the task of one session share. The lock is held to move bytes.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    started: Instant,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    /// The first answer came, or this is the server.
    pub(crate) is_linked: bool,
    pub(crate) legs: usize,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) opener: Option<Waker>,
    pub(crate) driver: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(session: Session, started: Instant, is_linked: bool) -> Arc<Self> {
        let state =
            State { session, is_linked, legs: 0, reader: None, writer: None, opener: None, driver: None };
        Arc::new(Self { state: Mutex::new(state), started })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a poisoned one would hold a whole session anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// When a moment of the session's clock is.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }
}

impl State {
    pub(crate) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake(waker: &mut Option<Waker>) {
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }
}

/// A byte stream over several circuits.
///
/// Writing stops while the other end does not acknowledge and goes on when it does. `flush` does not wait.
/// `shutdown` waits until the other end *has* everything, which is more than that it is on its way. Dropping a
/// stream before both ends have everything resets it. Errors carry the [`Fault`] that ended it.
pub struct ConfluxStream {
    shared: Arc<Shared>,
    scratch: Vec<u8>,
}

impl ConfluxStream {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, scratch: Vec::new() }
    }

    /// Waits until the other end has answered once. What is written before waits for nothing.
    ///
    /// # Errors
    /// [`Fault`], if the stream ended before.
    pub async fn linked(&self) -> Result<(), Fault> {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.is_linked {
                return Poll::Ready(Ok(()));
            }
            if let Some(Some(fault)) = state.session.ended() {
                return Poll::Ready(Err(fault));
            }
            state.opener = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The legs it has now; its bytes wait while there are none.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.shared.lock().legs
    }
}

fn error(fault: Fault) -> io::Error {
    let kind = match fault {
        Fault::Abandoned => io::ErrorKind::TimedOut,
        Fault::Overload => io::ErrorKind::OutOfMemory,
        Fault::Refused(_) => io::ErrorKind::ConnectionRefused,
        Fault::Dropped | Fault::Reset => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, fault)
}

impl Drop for ConfluxStream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.session.reset();
        state.wake_driver();
    }
}

impl AsyncRead for ConfluxStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.scratch.clear();
        let mut state = this.shared.lock();
        let max = buf.remaining().min(READ_BYTES);
        let read = state.session.read(max, &mut this.scratch);
        if !this.scratch.is_empty() {
            buf.put_slice(&this.scratch);
            // There may be credit to tell of.
            state.wake_driver();
            return Poll::Ready(Ok(()));
        }
        match read {
            Ok(read) if read.end => Poll::Ready(Ok(())),
            Ok(_) => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Err(fault) => Poll::Ready(Err(error(fault))),
        }
    }
}

impl AsyncWrite for ConfluxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        match state.session.write(bytes) {
            Ok(0) if !bytes.is_empty() => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Ok(count) => {
                state.wake_driver();
                Poll::Ready(Ok(count))
            }
            Err(WriteError::Finished) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Err(WriteError::Ended(fault)) => Poll::Ready(Err(error(fault))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.session.finish();
        if state.session.is_delivered() {
            return Poll::Ready(Ok(()));
        }
        if let Some(fault) = state.session.ended() {
            return Poll::Ready(fault.map_or(Ok(()), |fault| Err(error(fault))));
        }
        state.writer = Some(cx.waker().clone());
        state.wake_driver();
        Poll::Pending
    }
}

impl fmt::Debug for ConfluxStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfluxStream").field("legs", &self.legs()).finish_non_exhaustive()
    }
}
