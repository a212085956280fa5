/// Bytes of the length that precedes each frame, big-endian.
const LENGTH_BYTES: usize = 4;

/// Why a byte stream is not a sequence of frames. The fault of the sender; the stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame beyond the limit of the stream.
    #[error("frame of {len} bytes exceeds {limit} bytes")]
    TooLong {
        /// Declared length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Puts a body behind its length: four big-endian bytes.
///
/// # Errors
/// [`FrameError::TooLong`] beyond `limit_bytes`; the caller's fault.
pub fn encode_frame(body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong { len: body.len(), limit: limit_bytes };
    if body.len() > limit_bytes {
        return Err(too_long);
    }
    let len = u32::try_from(body.len()).map_err(|_| too_long)?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + body.len());
    frame.extend(len.to_be_bytes());
    frame.extend(body);
    Ok(frame)
}

/// Cuts a byte stream into frames as the bytes come in.
///
/// It holds the bytes that arrived and nothing more: a declared length allocates nothing.
#[derive(Debug)]
pub struct FrameDecoder {
    limit_bytes: usize,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that belong to frames already given out.
    taken: usize,
}

impl FrameDecoder {
    /// A decoder for frames of at most `limit_bytes`.
    #[must_use]
    pub const fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, buffer: Vec::new(), taken: 0 }
    }

    /// Adds received bytes. Take the complete frames out before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The body of the next complete frame, `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`FrameError`] once the stream is not a sequence of frames, and on every later call.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if len > self.limit_bytes {
            return Err(FrameError::TooLong { len, limit: self.limit_bytes });
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let body = body.to_vec();
        self.taken += LENGTH_BYTES + len;
        Ok(Some(body))
    }

    /// Whether bytes of an incomplete frame are waiting.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buffer.len() == self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut stream = encode_frame(b"one", 8).expect("short");
        stream.extend(encode_frame(b"", 8).expect("short"));
        stream.extend(encode_frame(b"three", 8).expect("short"));
        for cut in 1..stream.len() {
            let mut decoder = FrameDecoder::new(8);
            let mut frames = Vec::new();
            for part in stream.chunks(cut) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().expect("valid") {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"one"[..], b"", b"three"], "cut {cut}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.push(&(1u32 << 20).to_be_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.buffer.capacity() < 64);
        let mut decoder = FrameDecoder::new(8);
        decoder.push(&9u32.to_be_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong { len: 9, limit: 8 }));
    }
}
