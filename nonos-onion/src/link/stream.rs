use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::UnboundedSender;

use crate::circuit::StreamId;
use crate::link::handle::CircuitShared;
use crate::link::task::Notice;

/// Bytes buffered per stream and direction between the application and the machine. With the
/// stream window this bounds the memory of a stream whose reader is slow.
pub(crate) const PIPE_BYTES: usize = 64 * 1024;

/// What the application and the task share of one stream.
#[derive(Debug, Default)]
pub(crate) struct Pipe(Mutex<PipeState>);

#[derive(Debug, Default)]
pub(crate) struct PipeState {
    pub(crate) received: VecDeque<u8>,
    pub(crate) received_end: bool,
    /// The machine holds more bytes than fitted.
    pub(crate) more: bool,
    pub(crate) to_send: VecDeque<u8>,
    /// The application ended its half.
    pub(crate) shut: bool,
    /// The end was sent after all bytes.
    pub(crate) finished: bool,
    /// The other end reads no more.
    pub(crate) stopped: bool,
    pub(crate) broken: Option<io::ErrorKind>,
    /// A notice is on its way to the task; there is never more than one.
    pub(crate) noticed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl PipeState {
    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn write_error(&self) -> Option<io::ErrorKind> {
        self.broken.or_else(|| (self.stopped || self.shut).then_some(io::ErrorKind::BrokenPipe))
    }
}

impl Pipe {
    pub(crate) fn lock(&self) -> MutexGuard<'_, PipeState> {
        // A panic while holding it leaves plain bytes and flags, all of them valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn break_off(&self, kind: io::ErrorKind) {
        let mut state = self.lock();
        state.broken.get_or_insert(kind);
        state.wake_reader();
        state.wake_writer();
    }
}

/// A stream inside a circuit.
///
/// Writing stops when the windows are full and goes on as the reader at the other end reads.
/// `flush` does not wait: bytes leave as soon as the windows let them. `shutdown` waits until all
/// bytes and the end of the half are on their way. Dropping a stream that was not shut down resets
/// it.
pub struct OnionStream {
    id: StreamId,
    pipe: Arc<Pipe>,
    notices: UnboundedSender<Notice>,
    /// Keeps an own circuit open.
    _circuit: Option<Arc<CircuitShared>>,
}

impl OnionStream {
    pub(crate) const fn new(
        id: StreamId,
        pipe: Arc<Pipe>,
        notices: UnboundedSender<Notice>,
        circuit: Option<Arc<CircuitShared>>,
    ) -> Self {
        Self { id, pipe, notices, _circuit: circuit }
    }

    fn notice(&self, state: &mut PipeState) {
        if !state.noticed {
            state.noticed = true;
            // A stopped task breaks every pipe, which is where the application sees it.
            let _ = self.notices.send(Notice::Stream(self.id));
        }
    }
}

impl Drop for OnionStream {
    fn drop(&mut self) {
        let _ = self.notices.send(Notice::StreamDropped(self.id));
    }
}

impl AsyncRead for OnionStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.lock();
        if state.received.is_empty() {
            if state.received_end {
                return Poll::Ready(Ok(()));
            }
            if let Some(kind) = state.broken {
                return Poll::Ready(Err(kind.into()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (front, _) = state.received.as_slices();
        let count = front.len().min(buf.remaining());
        if let Some(bytes) = front.get(..count) {
            buf.put_slice(bytes);
        }
        state.received.drain(..count);
        if state.more && state.received.len() < PIPE_BYTES / 2 {
            self.notice(&mut state);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OnionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.lock();
        if let Some(kind) = state.write_error() {
            return Poll::Ready(Err(kind.into()));
        }
        let count = PIPE_BYTES.saturating_sub(state.to_send.len()).min(bytes.len());
        if count == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.to_send.extend(bytes.get(..count).unwrap_or_default());
        self.notice(&mut state);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.lock();
        if state.finished {
            return Poll::Ready(Ok(()));
        }
        if let Some(kind) = state.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if state.stopped {
            return Poll::Ready(Ok(()));
        }
        state.shut = true;
        state.writer = Some(cx.waker().clone());
        self.notice(&mut state);
        Poll::Pending
    }
}

impl fmt::Debug for OnionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnionStream").field("id", &self.id).finish_non_exhaustive()
    }
}
