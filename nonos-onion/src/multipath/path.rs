use core::time::Duration;
use std::io;
use std::sync::Arc;

use nonos_identity::Digest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};

use crate::link::ByteLink;
use crate::multipath::fetch::PathFault;
use crate::multipath::frame::{REPLY_BYTES, Reply, Request};
use crate::multipath::manifest::{Manifest, Shard, ShardFault, ShardId};
use crate::multipath::schedule::Timing;

/// Most requests at once on one path: with shards of 512 KiB this fills 25 MB/s and 150 ms, and it
/// bounds what a path that dies takes along.
pub const MAX_OUTSTANDING: usize = 8;
/// How long a path may take for one shard, from the moment at which it is its turn: 30 s, or
/// 17 kB/s. Slower paths count as dead, as do those that wait on purpose.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a path has to say.
#[derive(Debug)]
pub(crate) enum Event {
    Shard { shard: Shard, timing: Timing },
    Lost(PathFault),
}

/// What all paths of a transfer know.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) digest: Digest,
    pub(crate) events: Sender<(usize, Event)>,
}

/// Carries requests out over one stream and checked shards back, until either side ends.
pub(crate) async fn drive(
    transfer: Transfer,
    path: usize,
    stream: Box<dyn ByteLink>,
    asks: Receiver<ShardId>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let (pending, expected) = channel(MAX_OUTSTANDING);
    let ended =
        tokio::try_join!(send(&transfer, writer, asks, pending), receive(&transfer, path, reader, expected));
    if let Err(fault) = ended {
        // Nobody listens any more once the transfer has ended.
        let _ = transfer.events.send((path, Event::Lost(fault))).await;
    }
}

async fn send(
    transfer: &Transfer,
    mut writer: impl AsyncWrite + Unpin,
    mut asks: Receiver<ShardId>,
    pending: Sender<(ShardId, Instant)>,
) -> Result<(), PathFault> {
    while let Some(id) = asks.recv().await {
        let asked = Instant::now();
        let frame = Request { object: transfer.digest, id }.write();
        if pending.send((id, asked)).await.is_err() {
            break;
        }
        let write = async {
            writer.write_all(&frame).await?;
            writer.flush().await
        };
        timeout_at(asked + REQUEST_TIMEOUT, write).await.map_err(|_| PathFault::Timeout)??;
    }
    Ok(())
}

async fn receive(
    transfer: &Transfer,
    path: usize,
    mut reader: impl AsyncRead + Unpin,
    mut expected: Receiver<(ShardId, Instant)>,
) -> Result<(), PathFault> {
    while let Some((id, asked)) = expected.recv().await {
        let turn = Instant::now();
        let read = read_shard(&transfer.manifest, &mut reader, id);
        let (bytes, first) =
            timeout_at(turn + REQUEST_TIMEOUT, read).await.map_err(|_| PathFault::Timeout)??;
        let timing = Timing { wait: first - asked, transfer: first.elapsed() };
        let shard = transfer.manifest.check(path, id, bytes)?;
        if transfer.events.send((path, Event::Shard { shard, timing })).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The bytes of the shard that is due, and when the first of them came. Nothing is allocated
/// before the header is the expected one.
async fn read_shard(
    manifest: &Manifest,
    reader: &mut (impl AsyncRead + Unpin),
    id: ShardId,
) -> Result<(Vec<u8>, Instant), PathFault> {
    let mut header = [0; REPLY_BYTES];
    reader.read_exact(&mut header).await?;
    let first = Instant::now();
    let reply = Reply::read(&header)?;
    if reply.id != id {
        return Err(PathFault::Unasked(reply.id));
    }
    let len = usize::try_from(reply.len.ok_or(PathFault::Refused(id))?).unwrap_or(usize::MAX);
    if len != manifest.shard_bytes(id.stripe) {
        return Err(PathFault::Shard { id, fault: ShardFault::Length });
    }
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await?;
    Ok((bytes, first))
}

impl From<io::Error> for PathFault {
    fn from(error: io::Error) -> Self {
        Self::Closed(error.kind())
    }
}
