//! Serving chunks of capsules and inputs to whoever asks over a circuit.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nonos_capsule::{CHUNK_BYTES, CapsuleId, CapsuleStore as _, CheckSigned as _, SignaturePolicy};
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Unverified, WideDigest};
use nonos_ledger::Code;
use nonos_mesh::fetch::{Request, Response, Want};
use nonos_mesh::{FrameDecoder, encode_frame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::clock;
use crate::config::Tamper;
use crate::node::Shared;
use crate::records::{self, Voucher};

/// How long a client may be silent: an idle stream keeps a place that others wait for.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What was served last, ready to be served again: proofs take a pass over the whole capsule.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    capsule: Option<Arc<Slices>>,
    input: Option<Arc<Slices>>,
}

/// A content in the pieces that are asked for.
#[derive(Debug)]
struct Slices {
    id: WideDigest,
    pieces: Vec<Vec<u8>>,
}

/// Answers requests in their order until the client ends the stream.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut decoder = FrameDecoder::new(Request::MAX_BYTES);
    let mut buffer = vec![0; 4096];
    let mut paid = false;
    loop {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            let request: Request = wire::from_bytes(&frame).map_err(io::Error::other)?;
            let response = match request.want {
                // One promise for one stream: each is a durable entry in the journal.
                Want::Pay(_) if paid => Response::NotFound,
                Want::Pay(bytes) => {
                    paid = true;
                    pay(shared, &bytes).await
                }
                _ => answer(shared, request).await,
            };
            let frame =
                encode_frame(&wire::to_bytes(&response), Response::MAX_BYTES).map_err(io::Error::other)?;
            within(stream.write_all(&frame)).await?;
        }
        within(stream.flush()).await?;
        match within(stream.read(&mut buffer)).await? {
            0 => return Ok(()),
            read => decoder.push(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Ends what takes too long: a client that asks and never reads keeps its place no longer than one
/// that is silent.
async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(IDLE_MAX, step).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn answer(shared: &Arc<Shared>, request: Request) -> Response {
    let id = WideDigest::from_bytes(request.capsule);
    match request.want {
        Want::Head => {
            let head = shared.board().heads.get(&id).map(|head| head.to_bytes());
            head.map_or(Response::NotFound, Response::Head)
        }
        Want::Chunk(index) => match piece(shared, id, index).await {
            Some(bytes) => Response::Chunk { index, bytes: tampered(shared, bytes) },
            None => Response::NotFound,
        },
        _ => Response::NotFound,
    }
}

/// What a lying seeder makes of a chunk.
fn tampered(shared: &Shared, mut bytes: Vec<u8>) -> Vec<u8> {
    if shared.config.tamper == Some(Tamper::Payload)
        && let Some(byte) = bytes.last_mut()
    {
        *byte ^= 1;
    }
    bytes
}

async fn piece(shared: &Arc<Shared>, id: WideDigest, index: u32) -> Option<Vec<u8>> {
    let ready = shared.shelf().find(&id);
    let slices = match ready {
        Some(slices) => slices,
        None => {
            let _turn = shared.loading.lock().await;
            let ready = shared.shelf().find(&id);
            match ready {
                Some(slices) => slices,
                None => {
                    let shared = shared.clone();
                    crate::tasks::blocking(move || load(&shared, id)).await.flatten()?
                }
            }
        }
    };
    slices.pieces.get(usize::try_from(index).ok()?).cloned()
}

fn load(shared: &Shared, id: WideDigest) -> Option<Arc<Slices>> {
    let (pieces, is_capsule) = match capsule(shared, id) {
        Some(pieces) => (pieces, true),
        None => (input(shared, &id)?, false),
    };
    let slices = Arc::new(Slices { id, pieces });
    let mut shelf = shared.shelf();
    let slot = if is_capsule { &mut shelf.capsule } else { &mut shelf.input };
    *slot = Some(slices.clone());
    Some(slices)
}

fn capsule(shared: &Shared, id: WideDigest) -> Option<Vec<Vec<u8>>> {
    let stored = shared.capsules.read(&CapsuleId::from_digest(id)).ok().flatten()?;
    let capsule = stored.check_signed(&SignaturePolicy::new(shared.network), clock::now()).ok()?;
    Some(capsule.chunks().map(|chunk| wire::to_bytes(&chunk)).collect())
}

fn input(shared: &Shared, id: &WideDigest) -> Option<Vec<Vec<u8>>> {
    let input = std::fs::read(shared.input_path(id)).ok()?;
    Some(input.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect())
}

impl Shelf {
    fn find(&self, id: &WideDigest) -> Option<Arc<Slices>> {
        [&self.capsule, &self.input].into_iter().flatten().find(|slices| slices.id == *id).cloned()
    }
}

async fn pay(shared: &Arc<Shared>, bytes: &[u8]) -> Response {
    let Ok(voucher) = wire::from_bytes::<Voucher>(bytes) else { return Response::NotFound };
    match records::check_voucher(Unverified::new(voucher), shared.me, &shared.network) {
        Ok(voucher) => {
            shared.post_voucher(&voucher, Code::Seeding).await;
            Response::Paid
        }
        Err(_) => Response::NotFound,
    }
}

impl Shared {
    /// Where an input that this node offers is kept.
    pub(crate) fn input_path(&self, id: &WideDigest) -> PathBuf {
        self.data_dir.join("inputs").join(id.to_string())
    }
}
