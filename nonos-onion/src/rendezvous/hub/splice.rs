use core::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::link::ByteLink;
use crate::rendezvous::hub::{HubError, HubLimits};

/// Bytes under way in one direction: as many as a stream sends in one turn.
const BUFFER_BYTES: usize = 32 * 1024;

/// Copies both ways, no faster than the receivers read, until both halves have ended. `early` came from
/// the first one already.
///
/// Whoever stops reading ends one direction alone: what it sent before it left still arrives. A half that
/// breaks instead of ending cuts off both.
pub(super) async fn splice(
    one: Box<dyn ByteLink>,
    early: Vec<u8>,
    other: Box<dyn ByteLink>,
    limits: &HubLimits,
) -> Result<(), HubError> {
    let (one_reader, one_writer) = tokio::io::split(one);
    let (other_reader, other_writer) = tokio::io::split(other);
    let carried = AtomicU64::new(0);
    tokio::try_join!(
        pump(one_reader, other_writer, early, &carried, limits),
        pump(other_reader, one_writer, Vec::new(), &carried, limits),
    )?;
    Ok(())
}

async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    early: Vec<u8>,
    carried: &AtomicU64,
    limits: &HubLimits,
) -> Result<(), HubError> {
    let mut buffer = early;
    let mut count = buffer.len();
    buffer.resize(BUFFER_BYTES, 0);
    loop {
        if count > 0 {
            let total = carried.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
            if total > limits.splice_bytes {
                return Err(HubError::Full("bytes of one rendezvous"));
            }
            let write = async {
                writer.write_all(buffer.get(..count).unwrap_or_default()).await?;
                writer.flush().await
            };
            if timeout(limits.idle, write).await.map_err(|_| HubError::Timeout)?.is_err() {
                return Ok(());
            }
        }
        count = loop {
            let before = carried.load(Ordering::Relaxed);
            match timeout(limits.idle, reader.read(&mut buffer)).await {
                Ok(count) => break count.map_err(|error| HubError::Stream(error.kind()))?,
                // The other direction may be the busy one.
                Err(_) if carried.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(HubError::Timeout),
            }
        };
        if count == 0 {
            let _ = timeout(limits.idle, writer.shutdown()).await.map_err(|_| HubError::Timeout)?;
            return Ok(());
        }
    }
}
