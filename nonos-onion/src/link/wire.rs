//! Cells between a link and the task.

use core::time::Duration;

use nonos_identity::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::cell::CELL_BYTES;
use crate::link::{ByteLink, LinkError};
use crate::machine::{Input, LinkId};

/// A link whose peer takes no byte for so long is dead. Against neighbours that never read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What links tell the task.
pub(super) enum Event {
    Cells { link: LinkId, bytes: Vec<u8> },
    Sent { link: LinkId, buffer: Vec<u8> },
    Down { link: LinkId },
    Opened { peer: NodeId, result: Result<Box<dyn ByteLink>, LinkError> },
}

/// Reads cells, as many as there are at once.
pub(super) async fn read_link(link: LinkId, mut io: ReadHalf<Box<dyn ByteLink>>, events: Sender<Event>) {
    let mut buffer = Vec::with_capacity(Input::BUFFER_BYTES);
    // Room for at least one byte remains: a full buffer is whole cells and was handed over.
    while matches!(io.read_buf(&mut buffer).await, Ok(1..)) {
        let whole = buffer.len() - buffer.len() % CELL_BYTES;
        if whole == 0 {
            continue;
        }
        let mut rest = Vec::with_capacity(Input::BUFFER_BYTES);
        rest.extend_from_slice(buffer.get(whole..).unwrap_or_default());
        buffer.truncate(whole);
        let bytes = core::mem::replace(&mut buffer, rest);
        if events.send(Event::Cells { link, bytes }).await.is_err() {
            return;
        }
    }
    let _ = events.send(Event::Down { link }).await;
}

/// Writes buffers and gives them back.
pub(super) async fn write_link(
    link: LinkId,
    mut io: WriteHalf<Box<dyn ByteLink>>,
    mut queue: Receiver<Vec<u8>>,
    events: Sender<Event>,
) {
    while let Some(buffer) = queue.recv().await {
        let write = async {
            io.write_all(&buffer).await?;
            io.flush().await
        };
        if !matches!(tokio::time::timeout(WRITE_TIMEOUT, write).await, Ok(Ok(()))) {
            let _ = events.send(Event::Down { link }).await;
            return;
        }
        // A full queue of events must not hold back the next write.
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(Event::Sent { link, buffer }) {
            let _ = events.send(event).await;
        }
    }
    let _ = io.shutdown().await;
}
