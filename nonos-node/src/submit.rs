//! Handing a receipt to another node for broadcast, so that gossip does not start at the operator.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_mesh::ItemKind;
use nonos_zk::Receipt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::circuits::{RouteError, port};
use crate::event::Event;
use crate::node::Shared;
use crate::records::{Fulfilment, Sealed};

/// How long the other end may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the broadcaster answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub(crate) enum SubmitAnswer {
    /// It was offered to gossip, whose check decides.
    #[n(0)]
    Taken,
    /// It is not a receipt that could pass.
    #[n(1)]
    Refused,
}

impl Wire for SubmitAnswer {
    const MAX_BYTES: usize = 8;
}

/// Sends a receipt through a fresh circuit to `broadcaster`. The payer relays none of it: it
/// would see a neighbour of the operator just when the receipt appears.
pub(crate) async fn send(
    shared: &Arc<Shared>,
    broadcaster: nonos_identity::NodeId,
    publisher: nonos_identity::NodeId,
    fulfilment: &Fulfilment,
) -> Result<SubmitAnswer, RouteError> {
    let route = shared.first_route("submit receipt", broadcaster, &[publisher]).await?;
    let mut stream = route.circuit.open(port::SUBMIT).await?;
    let promises = shared.promise_relays(&route).await;
    let lost = |_| RouteError::Open(nonos_onion::link::OpenError::Timeout);
    let answer = ask(&mut stream, &Sealed(wire::to_bytes(fulfilment)).0).await;
    route.circuit.close();
    shared.settle(promises, answer.is_ok()).await;
    wire::from_bytes(&answer.map_err(lost)?)
        .map_err(|_| RouteError::Open(nonos_onion::link::OpenError::Refused))
}

/// Takes one receipt and publishes it. The mesh checks it as it checks anybody's.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let bytes = read_record(&mut stream, Fulfilment::MAX_BYTES).await?;
    let answer =
        match wire::from_bytes::<Fulfilment>(&bytes).ok().and_then(|it| Receipt::parse(&it.receipt.0).ok()) {
            Some(_) => {
                shared.mesh.publish(ItemKind::Receipt, bytes).await.map_err(io::Error::other)?;
                shared.tell(Event::Broadcast);
                SubmitAnswer::Taken
            }
            None => SubmitAnswer::Refused,
        };
    answer_with(&mut stream, &wire::to_bytes(&answer)).await
}

/// Writes the answer and waits for the client to end the stream: a stream that is dropped takes
/// what is still under way with it.
pub(crate) async fn answer_with(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    record: &[u8],
) -> io::Result<()> {
    write_record(stream, record).await?;
    stream.shutdown().await?;
    let ended = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
    match ended.map_err(|_| io::ErrorKind::TimedOut)? {
        // Nothing more is expected; an end of any kind is one.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sends one record and waits for one back.
pub(crate) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    record: &[u8],
) -> io::Result<Vec<u8>> {
    ask_for(stream, record, ANSWER_BYTES_MAX).await
}

/// The same for an answer of at most `limit` bytes.
pub(crate) async fn ask_for(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    record: &[u8],
    limit: usize,
) -> io::Result<Vec<u8>> {
    let exchange = async {
        write_record(stream, record).await?;
        read_record(stream, limit).await
    };
    tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Longest answer to a record, in bytes.
const ANSWER_BYTES_MAX: usize = 64;

/// Reads one record after its length; `limit` bytes at most are ever held.
pub(crate) async fn read_record(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    tokio::time::timeout(PATIENCE, read_whole(stream, limit)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn read_whole(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let len = stream.read_u32().await?;
    let len = usize::try_from(len).ok().filter(|len| *len <= limit);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "record exceeds its limit"))?;
    let mut record = Vec::new();
    stream.take(len as u64).read_to_end(&mut record).await?;
    if record.len() == len { Ok(record) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes one record after its length.
pub(crate) async fn write_record(stream: &mut (impl AsyncWrite + Unpin), record: &[u8]) -> io::Result<()> {
    let len = u32::try_from(record.len()).map_err(io::Error::other)?;
    stream.write_u32(len).await?;
    stream.write_all(record).await?;
    stream.flush().await
}
