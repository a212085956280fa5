use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroize as _;

use crate::handshake::AEAD_TAG_BYTES;
use crate::link::ByteLink;

/// Bytes of one frame before encryption. Small enough that a byte does not wait for many others, large
/// enough that the 18 bytes around a frame are next to nothing.
const FRAME_PLAIN_BYTES: usize = 16 * 1024 - AEAD_TAG_BYTES;
const HEADER_BYTES: usize = 2;

/// A stream between a client and an onion service, encrypted from end to end.
///
/// Every frame is `length u16 | ciphertext`, and no frame may be left out, repeated or moved. The end of a
/// half is a frame too, one without content: whoever cuts the stream off before it makes the reader fail
/// with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), and what does not decrypt makes it fail with
/// [`InvalidData`](io::ErrorKind::InvalidData).
///
/// `flush` hands bytes to the circuit, it does not wait until they arrive. `shutdown` ends this half and
/// leaves the other one open. A stream that is dropped without it is cut off. None outlives the epoch of its
/// two circuits by more than their grace.
pub struct ServiceStream {
    io: Box<dyn ByteLink>,
    noise: Box<snow::TransportState>,
    reading: Reading,
    /// A frame as it comes, header included, as far as it is there.
    frame: Vec<u8>,
    /// Decrypted bytes, from `at`.
    plain: Vec<u8>,
    at: usize,
    /// Encrypted bytes, from `sent`.
    out: Vec<u8>,
    sent: usize,
    /// The last frame is in `out`.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// The other end has ended its half.
    Ended,
    Broken(io::ErrorKind),
}

impl ServiceStream {
    pub(crate) fn new(io: Box<dyn ByteLink>, noise: snow::TransportState) -> Self {
        Self {
            io,
            noise: Box::new(noise),
            reading: Reading::Open,
            frame: Vec::new(),
            plain: Vec::new(),
            at: 0,
            out: Vec::new(),
            sent: 0,
            ended: false,
        }
    }

    /// Reads one frame into `plain`, or the end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let wanted = match self.frame.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES,
                Some(header) => {
                    let len = usize::from(u16::from_be_bytes(*header));
                    if !(AEAD_TAG_BYTES..=FRAME_PLAIN_BYTES + AEAD_TAG_BYTES).contains(&len) {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                    HEADER_BYTES + len
                }
            };
            if self.frame.len() == wanted && wanted > HEADER_BYTES {
                return Poll::Ready(self.open_frame());
            }
            let have = self.frame.len();
            self.frame.resize(wanted, 0);
            let mut rest = ReadBuf::new(self.frame.get_mut(have..).unwrap_or_default());
            let read = Pin::new(&mut self.io).poll_read(cx, &mut rest);
            let count = rest.filled().len();
            self.frame.truncate(have + count);
            ready!(read)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn open_frame(&mut self) -> io::Result<()> {
        let sealed = self.frame.get(HEADER_BYTES..).unwrap_or_default();
        self.plain.resize(sealed.len(), 0);
        let opened = self.noise.read_message(sealed, &mut self.plain);
        self.frame.clear();
        let len = opened.map_err(|_| io::ErrorKind::InvalidData)?;
        self.plain.truncate(len);
        self.at = 0;
        if len == 0 {
            self.reading = Reading::Ended;
        }
        Ok(())
    }

    /// Puts a frame into `out`, which is empty.
    fn seal_frame(&mut self, plain: &[u8]) -> io::Result<()> {
        let len = plain.len() + AEAD_TAG_BYTES;
        let header = u16::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes();
        self.out.clear();
        self.sent = 0;
        self.out.extend_from_slice(&header);
        self.out.resize(HEADER_BYTES + len, 0);
        let room = self.out.get_mut(HEADER_BYTES..).unwrap_or_default();
        self.noise.write_message(plain, room).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ServiceStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.at == this.plain.len() {
            match this.reading {
                Reading::Ended => return Poll::Ready(Ok(())),
                Reading::Broken(kind) => return Poll::Ready(Err(kind.into())),
                Reading::Open => {}
            }
            if let Err(error) = ready!(this.poll_frame(cx)) {
                this.plain.clear();
                this.at = 0;
                this.reading = Reading::Broken(error.kind());
            }
        }
        let waiting = this.plain.get(this.at..).unwrap_or_default();
        let count = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..count).unwrap_or_default());
        this.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServiceStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(cx))?;
        let plain = bytes.get(..bytes.len().min(FRAME_PLAIN_BYTES)).unwrap_or_default();
        if plain.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.seal_frame(plain)?;
        // As far as it goes now; the bytes are taken, whatever becomes of them.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(plain.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_drain(cx))?;
        if !this.ended {
            this.seal_frame(&[])?;
            this.ended = true;
            ready!(this.poll_drain(cx))?;
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl Drop for ServiceStream {
    fn drop(&mut self) {
        self.plain.zeroize();
    }
}

impl fmt::Debug for ServiceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceStream").field("reading", &self.reading).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    /// Transports of two ends that have shaken hands; no circuit is needed to encrypt.
    fn noise() -> (snow::TransportState, snow::TransportState) {
        let params: snow::params::NoiseParams = "Noise_NN_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        let mut one = snow::Builder::new(params.clone()).build_initiator().unwrap();
        let mut other = snow::Builder::new(params).build_responder().unwrap();
        let (mut message, mut empty) = ([0; 64], [0; 64]);
        let len = one.write_message(&[], &mut message).unwrap();
        other.read_message(&message[..len], &mut empty).unwrap();
        let len = other.write_message(&[], &mut message).unwrap();
        one.read_message(&message[..len], &mut empty).unwrap();
        (one.into_transport_mode().unwrap(), other.into_transport_mode().unwrap())
    }

    fn pair(bytes: usize) -> (ServiceStream, ServiceStream) {
        let ((one, other), (near, far)) = (noise(), duplex(bytes));
        (ServiceStream::new(Box::new(near), one), ServiceStream::new(Box::new(far), other))
    }

    /// A writer, and a reader of what the test lets through.
    fn watched() -> (ServiceStream, DuplexStream, DuplexStream, ServiceStream) {
        let (one, other) = noise();
        let ((near, tap), (inject, far)) = (duplex(1 << 20), duplex(1 << 20));
        (ServiceStream::new(Box::new(near), one), tap, inject, ServiceStream::new(Box::new(far), other))
    }

    async fn read_kind(stream: &mut ServiceStream) -> io::ErrorKind {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect_err("the stream must not end well").kind()
    }

    #[tokio::test]
    async fn megabytes_go_both_ways_through_a_narrow_pipe() {
        let (mut one, mut other) = pair(777);
        let sent: Vec<u8> = (0..1_000_000_u32).flat_map(|i| i.to_le_bytes()).take(1 << 20).collect();
        let echo = tokio::spawn(async move {
            let mut received = Vec::new();
            other.read_to_end(&mut received).await.unwrap();
            // The half of the reader is still open after the other one has ended.
            other.write_all(&received).await.unwrap();
            other.shutdown().await.unwrap();
        });
        one.write_all(&sent).await.unwrap();
        one.shutdown().await.unwrap();
        assert_eq!(one.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut back = Vec::new();
        one.read_to_end(&mut back).await.unwrap();
        assert!(back == sent);
        echo.await.unwrap();
        assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0, "the end stays the end");
    }

    /// Who cuts the stream off, even between two frames, cannot make it look finished.
    #[tokio::test]
    async fn a_truncated_stream_does_not_end_well() {
        for cut in [0, 1, 2, 10, 2 + 5 + 16, 2 + 5 + 16 + 1, 2 + 5 + 16 + 17] {
            let (mut near, mut tap, mut inject, mut far) = watched();
            near.write_all(b"hello").await.unwrap();
            near.shutdown().await.unwrap();
            let mut wire = Vec::new();
            tap.read_to_end(&mut wire).await.unwrap();
            assert_eq!(wire.len(), 2 + 5 + 16 + 2 + 16);
            inject.write_all(&wire[..cut]).await.unwrap();
            inject.shutdown().await.unwrap();
            assert_eq!(read_kind(&mut far).await, io::ErrorKind::UnexpectedEof, "cut at {cut}");
            assert_eq!(read_kind(&mut far).await, io::ErrorKind::UnexpectedEof, "and it stays broken");
        }
    }

    #[tokio::test]
    async fn changed_repeated_and_reordered_frames_are_refused() {
        let frame = 2 + 5 + 16;
        type Change = fn(&mut Vec<u8>);
        let cases: [(&str, Change); 4] = [
            ("a flipped bit", |wire| wire[10] ^= 1),
            ("a repeated frame", |wire| wire.copy_within(0..23, 23)),
            ("a frame left out", |wire| drop(wire.drain(..23))),
            ("a length that no frame has", |wire| wire[0] = 0xff),
        ];
        for (what, change) in cases {
            let (mut near, mut tap, mut inject, mut far) = watched();
            near.write_all(b"hello").await.unwrap();
            near.write_all(b"again").await.unwrap();
            near.shutdown().await.unwrap();
            let mut wire = Vec::new();
            tap.read_to_end(&mut wire).await.unwrap();
            assert_eq!(wire.len(), 2 * frame + 18);
            change(&mut wire);
            inject.write_all(&wire).await.unwrap();
            inject.shutdown().await.unwrap();
            assert_eq!(read_kind(&mut far).await, io::ErrorKind::InvalidData, "{what}");
        }
    }

    #[tokio::test]
    async fn dropping_cuts_off() {
        let (mut one, mut other) = pair(1 << 16);
        one.write_all(b"hello").await.unwrap();
        drop(one);
        assert_eq!(read_kind(&mut other).await, io::ErrorKind::UnexpectedEof);
    }
}
