//! Descriptors of onion services at relays, which nodes reach through circuits.

use std::io;
use std::sync::Arc;

use nonos_identity::NetworkId;
use nonos_identity::wire::Wire as _;
use nonos_onion::RelayDescriptor;
use nonos_onion::link::system_clock;
use nonos_onion::rendezvous::{Circuits as _, Purpose, RelayCircuits, RelayHint};
use nonos_onion::service::{
    Directory, DirectoryError, DirectoryFuture, DirectoryIndex, MemoryDirectory, MemoryLimits, SharedRandom,
    SignedDescriptor, StoreError, TimePeriod,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Where a relay answers for the records that it keeps.
pub(super) const PORT: u16 = 3;
/// Wants a record kept; its bytes follow the index.
const KEEP: u8 = 0;
/// Wants to see one.
const SHOW: u8 = 1;

/// Nobody here makes keys that lie near an index.
pub(super) const fn random() -> SharedRandom {
    SharedRandom::from_bytes([0; 32])
}

/// The records that a relay keeps.
pub(super) fn kept(network: NetworkId) -> MemoryDirectory {
    MemoryDirectory::new(network, MemoryLimits::default())
}

/// Answers one question.
pub(super) async fn serve(
    directory: &MemoryDirectory,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let now = system_clock()();
    let periods = TimePeriod::published_at(now).into_iter().chain([TimePeriod::at(now).next()]);
    directory.advance(now, periods.map(|period| (period, random())));
    let (kind, mut index, mut record) = (stream.read_u8().await?, [0; 32], Vec::new());
    stream.read_exact(&mut index).await?;
    let index = DirectoryIndex::from_bytes(index);
    (&mut stream).take(SignedDescriptor::MAX_BYTES as u64).read_to_end(&mut record).await?;
    let answer = match kind {
        KEEP if directory.put(index, record).is_ok() => vec![KEEP],
        SHOW => directory.find(index).unwrap_or_default(),
        _ => Vec::new(),
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// One relay for each index: none of them fails here.
pub(super) struct Relays {
    pub(super) circuits: Arc<RelayCircuits>,
    pub(super) relays: Vec<RelayDescriptor>,
}

impl Relays {
    /// Asks the relay that keeps an index.
    fn ask(&self, kind: u8, index: DirectoryIndex, record: Vec<u8>) -> DirectoryFuture<Vec<u8>> {
        let bytes = *index.as_bytes();
        let at = bytes.first().map_or(0, |byte| usize::from(*byte)).checked_rem(self.relays.len());
        let keeper: Option<RelayHint> = at.and_then(|at| self.relays.get(at)).map(Into::into);
        let build = keeper.map(|keeper| self.circuits.build(keeper, Purpose::Introduce));
        let asked = async move {
            let circuit = build.ok_or(io::ErrorKind::NotFound)?.await.map_err(io::Error::other)?;
            // The question leaves with the stream.
            let mut stream = circuit.open_early(PORT).await.map_err(io::Error::other)?;
            stream.write_all(&[&[kind], &bytes[..], &record].concat()).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.take(SignedDescriptor::MAX_BYTES as u64).read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        Box::pin(async move { asked.await.map_err(|_| DirectoryError::Unreachable) })
    }
}

impl Directory for Relays {
    fn publish(&self, index: DirectoryIndex, bytes: Vec<u8>) -> DirectoryFuture<()> {
        let answer = self.ask(KEEP, index, bytes);
        Box::pin(async move { if answer.await? == [KEEP] { Ok(()) } else { Err(StoreError::Full.into()) } })
    }

    fn fetch(&self, index: DirectoryIndex) -> DirectoryFuture<Vec<Vec<u8>>> {
        let answer = self.ask(SHOW, index, Vec::new());
        Box::pin(
            async move { Ok(Some(answer.await?).filter(|record| !record.is_empty()).into_iter().collect()) },
        )
    }
}
