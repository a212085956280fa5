use core::time::Duration;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::multipath::frame::{FrameError, REQUEST_BYTES, Reply, Request};
use crate::multipath::object::Object;
use crate::multipath::path::REQUEST_TIMEOUT;

/// How long a stream may ask for nothing, so that nobody keeps a server's streams for free.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The stream broke, or ended inside a request.
    #[error("stream ended: {0}")]
    Stream(io::ErrorKind),
    /// Not the protocol: the client's fault.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The client asks for nothing, or does not take what it asked for.
    #[error("client is idle")]
    Idle,
    /// The object cannot be read: this side's fault.
    #[error("object cannot be read: {0}")]
    Source(io::Error),
}

/// Answers for an object over one stream until the client ends it; call it for each stream, as
/// nothing needs to tell which streams belong together. Returns the shards sent.
///
/// Requests are answered one at a time and in order, and wait in the stream until then: whatever a
/// client asks for, a stream costs one stripe and its parity in memory.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    object: &Object,
) -> Result<u64, ServeError> {
    let mut sent = 0;
    loop {
        let next = timeout(IDLE_TIMEOUT, next(&mut stream)).await.map_err(|_| ServeError::Idle)?;
        let Some(request) = next? else { return Ok(sent) };
        let ours = request.object == *object.digest();
        let shard = if ours { object.shard(request.id).map_err(ServeError::Source)? } else { None };
        let len = shard.as_ref().and_then(|shard| u32::try_from(shard.len()).ok());
        let write = async {
            stream.write_all(&Reply { id: request.id, len }.write()).await?;
            stream.write_all(shard.as_deref().unwrap_or_default()).await?;
            stream.flush().await
        };
        let written = timeout(REQUEST_TIMEOUT, write).await.map_err(|_| ServeError::Idle)?;
        written.map_err(|error| ServeError::Stream(error.kind()))?;
        sent += u64::from(len.is_some());
    }
}

/// The next request; `None` if the stream ends before its first byte.
async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Request>, ServeError> {
    let mut frame = [0; REQUEST_BYTES];
    let lost = |error: io::Error| ServeError::Stream(error.kind());
    let (first, rest) = frame.split_at_mut(1);
    if stream.read(first).await.map_err(lost)? == 0 {
        return Ok(None);
    }
    stream.read_exact(rest).await.map_err(lost)?;
    Ok(Some(Request::read(&frame)?))
}
