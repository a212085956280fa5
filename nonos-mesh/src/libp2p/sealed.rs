//! A byte stream under a finished Noise session: frames of two bytes of length and a message.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use snow::TransportState;

/// Bytes of the length before each message, big-endian.
const LENGTH_BYTES: usize = 2;
/// Longest message (Noise, section 3); a peer can make a node hold no more than one.
const MAX_MESSAGE_BYTES: usize = 65_535;
/// What AES-GCM adds to a message.
const TAG_BYTES: usize = 16;
/// Most bytes in one message.
const MAX_PLAIN_BYTES: usize = MAX_MESSAGE_BYTES - TAG_BYTES;
/// Room for bytes from the network at first; a link that carries little needs no more.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// Most room for bytes from the network: one frame.
const MAX_READ_BYTES: usize = LENGTH_BYTES + MAX_MESSAGE_BYTES;
/// Messages under one key, per direction; then both ends derive the next (Noise, section 4.2, `REKEY`).
/// An adversary who records them tells AES-GCM from randomness with probability `blocks^2 / 2^129`, here
/// `2^-73` at 2^12 blocks in each; the `2^-57` that TLS 1.3 allows (RFC 8446, section 5.5) is reached at 2^24.
const MESSAGES_PER_KEY: u64 = 1 << 16;

/// An authenticated stream. One task reads and writes it.
///
/// What is written is sealed when the stream is flushed or a message is full. A flush right after a write asks
/// to be called again and sends then, or as soon as the stream is read: a multiplexer flushes after each
/// frame of its own, and frames that it has ready share a message and a system call.
pub(super) struct Sealed<T> {
    io: T,
    session: TransportState,
    messages_per_key: u64,
    /// Bytes for the next message.
    plain: Vec<u8>,
    /// Whether something was written since the last flush.
    fresh: bool,
    /// The frame being written; its room is kept.
    frame: Window,
    /// Bytes from the network.
    read: Window,
    /// The message being read.
    opened: Window,
}

/// A part of a buffer that is in use.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    fn used(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    const fn len(&self) -> usize {
        self.end - self.start
    }

    const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Gives up the first `count` bytes.
    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// All of the buffer, of at least `count` bytes. What is in use is overwritten.
    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.bytes.len() < count {
            self.bytes.resize(count, 0);
        }
        &mut self.bytes
    }

    /// The unused end of the buffer, for bytes to append; never empty below `MAX_READ_BYTES` in use.
    fn tail(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let grown = (2 * self.bytes.len()).clamp(FIRST_READ_BYTES, MAX_READ_BYTES);
                self.bytes.resize(grown, 0);
            }
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }
}

impl<T> Sealed<T> {
    pub(super) fn new(io: T, session: TransportState) -> Self {
        Self {
            io,
            session,
            messages_per_key: MESSAGES_PER_KEY,
            plain: Vec::new(),
            fresh: false,
            frame: Window::default(),
            read: Window::default(),
            opened: Window::default(),
        }
    }

    /// Makes a frame of what was written, in place of the one before.
    fn seal(&mut self) -> io::Result<()> {
        let message_bytes = self.plain.len() + TAG_BYTES;
        let room = self.frame.room(LENGTH_BYTES + message_bytes);
        let (length, message) = room.split_at_mut_checked(LENGTH_BYTES).ok_or_else(broken)?;
        let sealed = self.session.write_message(&self.plain, message).map_err(invalid)?;
        length.copy_from_slice(&u16::try_from(sealed).map_err(|_| broken())?.to_be_bytes());
        (self.frame.start, self.frame.end) = (0, LENGTH_BYTES + sealed);
        self.plain.clear();
        if self.session.sending_nonce().is_multiple_of(self.messages_per_key) {
            self.session.rekey_outgoing();
        }
        Ok(())
    }

    /// Opens the next frame if all of it is there. One that was altered stays, so that every later read
    /// fails as this one.
    fn open(&mut self) -> io::Result<bool> {
        let Some((length, rest)) = self.read.used().split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(false);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length <= TAG_BYTES {
            return Err(invalid("a message without bytes"));
        }
        let Some(message) = rest.get(..length) else { return Ok(false) };
        let room = self.opened.room(length);
        let opened = self.session.read_message(message, room).map_err(invalid)?;
        (self.opened.start, self.opened.end) = (0, opened);
        self.read.consume(LENGTH_BYTES + length);
        if self.session.receiving_nonce().is_multiple_of(self.messages_per_key) {
            self.session.rekey_incoming();
        }
        Ok(true)
    }
}

impl<T: AsyncWrite + Unpin> Sealed<T> {
    /// Writes the frame to its end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frame.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, self.frame.used()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.frame.consume(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes everything.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_frame(cx))?;
        if !self.plain.is_empty() {
            self.fresh = false;
            self.seal()?;
            ready!(self.poll_frame(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Sealed<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            if !this.opened.is_empty() || buf.is_empty() {
                let count = this.opened.len().min(buf.len());
                if let (Some(to), Some(from)) = (buf.get_mut(..count), this.opened.used().get(..count)) {
                    to.copy_from_slice(from);
                }
                this.opened.consume(count);
                return Poll::Ready(Ok(count));
            }
            if this.open()? {
                continue;
            }
            match ready!(Pin::new(&mut this.io).poll_read(cx, this.read.tail()))? {
                0 if this.read.is_empty() => return Poll::Ready(Ok(0)),
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                count => this.read.end += count,
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Sealed<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.plain.len() >= MAX_PLAIN_BYTES {
            ready!(this.poll_frame(cx))?;
            this.seal()?;
            // Those who find no room come back for it.
            if let Poll::Ready(Err(error)) = this.poll_frame(cx) {
                return Poll::Ready(Err(error));
            }
        }
        let count = buf.len().min(MAX_PLAIN_BYTES - this.plain.len());
        this.plain.extend_from_slice(buf.get(..count).unwrap_or_default());
        this.fresh = true;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.fresh && this.plain.len() < MAX_PLAIN_BYTES {
            this.fresh = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_close(cx)
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}

fn broken() -> io::Error {
    io::Error::other("a message is longer than its frame")
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
    use proptest::prelude::*;
    use tokio_util::compat::TokioAsyncReadCompatExt as _;

    use super::super::noise::tests::sealed;
    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(test)
    }

    /// A stream, and what the network gives it and takes from it.
    async fn sender() -> (Sealed<Vec<u8>>, Sealed<futures::io::Cursor<Vec<u8>>>) {
        let (near, far) = sealed().await;
        (
            Sealed::new(Vec::new(), near.session),
            Sealed::new(futures::io::Cursor::new(Vec::new()), far.session),
        )
    }

    /// Frames of these messages.
    async fn frames(sender: &mut Sealed<Vec<u8>>, messages: &[Vec<u8>]) -> Vec<u8> {
        for message in messages {
            sender.write_all(message).await.expect("memory");
            sender.flush().await.expect("memory");
        }
        std::mem::take(&mut sender.io)
    }

    fn lengths(mut frames: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some((length, rest)) = frames.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            lengths.push(length - TAG_BYTES);
            frames = &rest[length..];
        }
        lengths
    }

    #[test]
    fn writes_share_a_message_until_the_second_flush() {
        run(async {
            let (mut sender, _) = sender().await;
            for _ in 0..3 {
                sender.write_all(&[7; 1000]).await.expect("memory");
                assert!(sender.flush().now_or_never().is_none());
            }
            assert!(sender.io.is_empty());
            sender.flush().await.expect("memory");
            assert_eq!(lengths(&sender.io), [3000]);
        });
    }

    #[test]
    fn what_was_written_leaves_before_a_read_waits() {
        run(async {
            let (mut near, mut far) = sealed().await;
            near.write_all(b"ping").await.expect("room");
            let mut bytes = [0; 4];
            assert!(near.read(&mut bytes).now_or_never().is_none());
            far.read_exact(&mut bytes).now_or_never().expect("it left").expect("open");
            assert_eq!(&bytes, b"ping");
        });
    }

    #[test]
    fn long_writes_become_full_messages() {
        run(async {
            let (mut sender, mut receiver) = sender().await;
            let long: Vec<u8> = (0..200_000u32).map(|i| i.to_le_bytes()[1]).collect();
            let bytes = frames(&mut sender, std::slice::from_ref(&long)).await;
            assert_eq!(lengths(&bytes), [65_519, 65_519, 65_519, 3443]);
            receiver.io = futures::io::Cursor::new(bytes);
            let mut read = Vec::new();
            receiver.read_to_end(&mut read).await.expect("whole frames");
            assert!(read == long);
            assert!(receiver.read.bytes.len() <= MAX_READ_BYTES);
        });
    }

    #[test]
    fn an_idle_link_holds_little() {
        run(async {
            let (mut sender, mut receiver) = sender().await;
            receiver.io = futures::io::Cursor::new(frames(&mut sender, &vec![vec![1; 100]; 50]).await);
            let mut read = Vec::new();
            receiver.read_to_end(&mut read).await.expect("whole frames");
            assert_eq!(read.len(), 5000);
            let held = receiver.read.bytes.len() + receiver.opened.bytes.len() + sender.frame.bytes.len();
            assert!(held <= 8 * 1024, "{held}");
        });
    }

    #[test]
    fn keys_change_at_both_ends_together() {
        run(async {
            let (mut sender, mut receiver) = sender().await;
            (sender.messages_per_key, receiver.messages_per_key) = (4, 4);
            let messages: Vec<Vec<u8>> = (0..20).map(|i| vec![i; 10]).collect();
            let bytes = frames(&mut sender, &messages).await;
            receiver.io = futures::io::Cursor::new(bytes.clone());
            let mut read = Vec::new();
            receiver.read_to_end(&mut read).await.expect("whole frames");
            assert_eq!(read, messages.concat());
        });
        // An end that keeps its keys understands the first four and no more.
        run(async {
            let (mut sender, mut receiver) = sender().await;
            sender.messages_per_key = 4;
            let bytes = frames(&mut sender, &vec![vec![9; 10]; 5]).await;
            receiver.io = futures::io::Cursor::new(bytes);
            let mut read = Vec::new();
            let error = receiver.read_to_end(&mut read).await.expect_err("another key");
            assert_eq!((error.kind(), read.len()), (io::ErrorKind::InvalidData, 40));
        });
    }

    #[test]
    fn a_cut_frame_is_no_end() {
        run(async {
            let (mut sender, mut receiver) = sender().await;
            let bytes = frames(&mut sender, &[vec![1; 100], vec![2; 100]]).await;
            receiver.io = futures::io::Cursor::new(bytes[..bytes.len() - 1].to_vec());
            let mut read = Vec::new();
            let error = receiver.read_to_end(&mut read).await.expect_err("cut");
            assert_eq!((error.kind(), read.len()), (io::ErrorKind::UnexpectedEof, 100));
        });
    }

    #[test]
    fn frames_come_once_and_in_order() {
        run(async {
            let (mut sender, mut receiver) = sender().await;
            let bytes = frames(&mut sender, &[vec![1; 100], vec![2; 100]]).await;
            let (first, second) = bytes.split_at(bytes.len() / 2);
            receiver.io = futures::io::Cursor::new([first, first, second].concat());
            let mut read = Vec::new();
            let error = receiver.read_to_end(&mut read).await.expect_err("replayed");
            assert_eq!((error.kind(), read.len()), (io::ErrorKind::InvalidData, 100));
            // And it stays so.
            assert!(receiver.read(&mut [0; 10]).await.is_err());
        });
        run(async {
            let (mut sender, mut receiver) = sender().await;
            let bytes = frames(&mut sender, &[vec![1; 100], vec![2; 100]]).await;
            receiver.io = futures::io::Cursor::new(bytes[bytes.len() / 2..].to_vec());
            assert!(receiver.read(&mut [0; 10]).await.is_err());
        });
    }

    #[test]
    fn a_message_without_bytes_is_refused() {
        run(async {
            let (mut sender, mut receiver) = sender().await;
            let mut frame = vec![0; LENGTH_BYTES + TAG_BYTES];
            frame[1] = 16;
            sender.session.write_message(&[], &mut frame[LENGTH_BYTES..]).expect("room");
            receiver.io = futures::io::Cursor::new(frame);
            assert!(receiver.read(&mut [0; 10]).await.is_err());
        });
    }

    #[test]
    fn a_close_sends_what_was_written() {
        run(async {
            let (mut near, mut far) = sealed().await;
            near.write_all(b"end").await.expect("room");
            near.close().await.expect("room");
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.expect("closed");
            assert_eq!(read, b"end");
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read(
            writes in proptest::collection::vec((1usize..40_000, any::<bool>()), 1..12),
            reads in 1usize..70_000,
        ) {
            run(async {
                let (mut sender, mut receiver) = sender().await;
                let mut written = Vec::new();
                for (number, (length, flush)) in writes.into_iter().enumerate() {
                    let bytes: Vec<u8> = (0..length).map(|i| (i + number).to_le_bytes()[0]).collect();
                    sender.write_all(&bytes).await.expect("memory");
                    if flush {
                        sender.flush().await.expect("memory");
                    }
                    written.extend(bytes);
                }
                sender.flush().await.expect("memory");
                receiver.io = futures::io::Cursor::new(std::mem::take(&mut sender.io));
                let (mut read, mut buffer) = (Vec::new(), vec![0; reads]);
                loop {
                    match receiver.read(&mut buffer).await.expect("whole frames") {
                        0 => break,
                        count => read.extend_from_slice(&buffer[..count]),
                    }
                }
                assert!(read == written);
            });
        }

        #[test]
        fn an_altered_frame_is_refused(at: usize, bit in 0u8..8) {
            run(async {
                let (mut sender, mut receiver) = sender().await;
                let mut bytes = frames(&mut sender, &[vec![1; 50], vec![2; 50]]).await;
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                let half = bytes.len() / 2;
                receiver.io = futures::io::Cursor::new(bytes);
                let mut read = Vec::new();
                assert!(receiver.read_to_end(&mut read).await.is_err());
                assert_eq!(read.len(), if at < half { 0 } else { 50 });
            });
        }

        #[test]
        fn any_bytes_are_no_frame(bytes in proptest::collection::vec(any::<u8>(), 1..2000)) {
            run(async {
                let (_, mut receiver) = sender().await;
                receiver.io = futures::io::Cursor::new(bytes);
                let mut read = Vec::new();
                assert!(receiver.read_to_end(&mut read).await.is_err());
                assert!(read.is_empty());
            });
        }
    }

    #[test]
    fn a_full_socket_holds_writes_back() {
        run(async {
            let (near, _) = sealed().await;
            let (narrow, wide) = tokio::io::duplex(1000);
            let mut sender = Sealed::new(narrow.compat(), near.session);
            // A message in the frame, one behind it, and nothing more.
            let mut taken = 0;
            while let Some(count) = sender.write(&[5; 10_000]).now_or_never() {
                taken += count.expect("open");
                assert!(taken <= 3 * MAX_PLAIN_BYTES);
            }
            assert_eq!(taken, 2 * MAX_PLAIN_BYTES);
            drop(wide);
            assert!(sender.write(&[5; 10]).await.is_err());
        });
    }
}
