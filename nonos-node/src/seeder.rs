//! Serving chunks of capsules and inputs to whoever asks over a circuit.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nonos_capsule::{CHUNK_BYTES, Capsule, CapsuleId, CapsuleStore as _, CheckSigned as _, SignaturePolicy};
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{Unverified, Verified, WideDigest};
use nonos_ledger::Code;
use nonos_mesh::fetch::{Request, Response, Want};
use nonos_mesh::{FrameDecoder, encode_frame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::clock;
use crate::config::Tamper;
use crate::node::Shared;
use crate::records::{self, Voucher};

/// What one stream serves: loaded once, then from memory.
#[derive(Default)]
struct Shelf {
    capsule: Option<Arc<Verified<Capsule>>>,
    input: Option<(WideDigest, Arc<Vec<u8>>)>,
}

/// Answers requests in their order until the client ends the stream.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut decoder = FrameDecoder::new(Request::MAX_BYTES);
    let mut shelf = Shelf::default();
    let mut buffer = vec![0; 4096];
    loop {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            let request: Request = wire::from_bytes(&frame).map_err(io::Error::other)?;
            let response = answer(shared, &mut shelf, request).await;
            let frame =
                encode_frame(&wire::to_bytes(&response), Response::MAX_BYTES).map_err(io::Error::other)?;
            stream.write_all(&frame).await?;
        }
        stream.flush().await?;
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => decoder.push(buffer.get(..read).unwrap_or_default()),
        }
    }
}

async fn answer(shared: &Arc<Shared>, shelf: &mut Shelf, request: Request) -> Response {
    let id = WideDigest::from_bytes(request.capsule);
    match request.want {
        Want::Pay(bytes) => pay(shared, &bytes).await,
        Want::Head => match capsule(shared, shelf, id).await {
            Some(capsule) => Response::Head(capsule.head().to_bytes()),
            None => Response::NotFound,
        },
        Want::Chunk(index) => match chunk(shared, shelf, id, index).await {
            Some(mut bytes) => {
                if shared.config.tamper == Some(Tamper::Payload)
                    && let Some(byte) = bytes.last_mut()
                {
                    *byte ^= 1;
                }
                Response::Chunk { index, bytes }
            }
            None => Response::NotFound,
        },
        _ => Response::NotFound,
    }
}

async fn chunk(shared: &Arc<Shared>, shelf: &mut Shelf, id: WideDigest, index: u32) -> Option<Vec<u8>> {
    if let Some(capsule) = capsule(shared, shelf, id).await {
        return capsule.chunk(index).map(|chunk| wire::to_bytes(&chunk));
    }
    let input = input(shared, shelf, id).await?;
    let part = input.chunks(CHUNK_BYTES).nth(usize::try_from(index).ok()?)?;
    Some(part.to_vec())
}

async fn capsule(shared: &Arc<Shared>, shelf: &mut Shelf, id: WideDigest) -> Option<Arc<Verified<Capsule>>> {
    if let Some(capsule) = &shelf.capsule
        && *capsule.id().as_digest() == id
    {
        return Some(capsule.clone());
    }
    let shared = shared.clone();
    let loaded = crate::tasks::blocking(move || load(&shared, id)).await.flatten()?;
    shelf.capsule = Some(loaded.clone());
    Some(loaded)
}

fn load(shared: &Shared, id: WideDigest) -> Option<Arc<Verified<Capsule>>> {
    let stored = shared.capsules.read(&CapsuleId::from_digest(id)).ok().flatten()?;
    let policy = SignaturePolicy::new(shared.network);
    stored.check_signed(&policy, clock::now()).ok().map(Arc::new)
}

async fn input(shared: &Arc<Shared>, shelf: &mut Shelf, id: WideDigest) -> Option<Arc<Vec<u8>>> {
    if let Some((held, input)) = &shelf.input
        && *held == id
    {
        return Some(input.clone());
    }
    let input = Arc::new(tokio::fs::read(shared.input_path(&id)).await.ok()?);
    shelf.input = Some((id, input.clone()));
    Some(input)
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
