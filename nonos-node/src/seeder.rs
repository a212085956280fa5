//! Serving chunks of capsules and inputs to whoever asks over a circuit.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nonos_capsule::{
    CHUNK_BYTES, CapsuleId, CapsuleStore as _, CheckSigned as _, FieldOpening, Manifest, SignaturePolicy,
};
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
    /// Of a capsule that hides its payload's digest: it says who may have it.
    lock: Option<Manifest>,
}

/// Answers requests in their order until the client ends the stream.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut decoder = FrameDecoder::new(Request::MAX_BYTES);
    let mut buffer = vec![0; 4096];
    let mut paid = false;
    let mut permitted = None;
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
                _ => answer(shared, request, &mut permitted).await,
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

async fn answer(shared: &Arc<Shared>, request: Request, permitted: &mut Option<WideDigest>) -> Response {
    let id = WideDigest::from_bytes(request.capsule);
    match request.want {
        Want::Head => {
            let head = shared.board().heads.get(&id).map(|head| head.to_bytes());
            head.map_or(Response::NotFound, Response::Head)
        }
        want @ (Want::Permit(_) | Want::Chunk(_)) => {
            let slices = slices(shared, id).await;
            let mut response = slices.map_or(Response::NotFound, |slices| slices.answer(&want, permitted));
            // What a lying seeder makes of a chunk.
            if let (Some(Tamper::Payload), Response::Chunk { bytes, .. }) =
                (shared.config.tamper, &mut response)
                && let Some(byte) = bytes.last_mut()
            {
                *byte ^= 1;
            }
            response
        }
        _ => Response::NotFound,
    }
}

async fn slices(shared: &Arc<Shared>, id: WideDigest) -> Option<Arc<Slices>> {
    let ready = shared.shelf().find(&id);
    if ready.is_some() {
        return ready;
    }
    let _turn = shared.loading.lock().await;
    let ready = shared.shelf().find(&id);
    if ready.is_some() {
        return ready;
    }
    let shared = shared.clone();
    crate::tasks::blocking(move || load(&shared, id)).await.flatten()
}

fn load(shared: &Shared, id: WideDigest) -> Option<Arc<Slices>> {
    let (slices, is_capsule) = match capsule(shared, id) {
        Some(slices) => (slices, true),
        None => (input(shared, id)?, false),
    };
    let slices = Arc::new(slices);
    let mut shelf = shared.shelf();
    let slot = if is_capsule { &mut shelf.capsule } else { &mut shelf.input };
    *slot = Some(slices.clone());
    Some(slices)
}

fn capsule(shared: &Shared, id: WideDigest) -> Option<Slices> {
    let stored = shared.capsules.read(&CapsuleId::from_digest(id)).ok().flatten()?;
    let capsule = stored.check_signed(&SignaturePolicy::new(shared.network), clock::now()).ok()?;
    let pieces = capsule.chunks().map(|chunk| wire::to_bytes(&chunk)).collect();
    let manifest = capsule.manifest();
    let lock = manifest.payload.digest.is_hidden().then(|| manifest.clone());
    Some(Slices { id, pieces, lock })
}

fn input(shared: &Shared, id: WideDigest) -> Option<Slices> {
    let input = std::fs::read(shared.input_path(&id)).ok()?;
    let pieces = input.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
    Some(Slices { id, pieces, lock: None })
}

impl Slices {
    /// `permitted` is the capsule that this stream last showed a permit for.
    fn answer(&self, want: &Want, permitted: &mut Option<WideDigest>) -> Response {
        let is_open = self.lock.is_none() || *permitted == Some(self.id);
        match want {
            Want::Permit(permit) if is_open || self.takes(permit) => {
                *permitted = Some(self.id);
                Response::Permitted
            }
            Want::Chunk(index) if is_open => self.chunk(*index),
            _ => Response::NotFound,
        }
    }

    fn takes(&self, permit: &[u8]) -> bool {
        let opening = wire::from_bytes::<FieldOpening>(permit);
        opening.is_ok_and(|it| self.lock.as_ref().is_some_and(|lock| lock.check_permit(&it).is_ok()))
    }

    fn chunk(&self, index: u32) -> Response {
        let piece = usize::try_from(index).ok().and_then(|index| self.pieces.get(index)).cloned();
        piece.map_or(Response::NotFound, |bytes| Response::Chunk { index, bytes })
    }
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

#[cfg(test)]
mod tests {
    use nonos_capsule::{Field, HiddenFields, Release};

    use super::*;

    fn fields(seed: u8, names: &[&str]) -> HiddenFields {
        let field =
            |name: &&str| Field { name: (*name).into(), value: String::new(), release: Release::Author };
        HiddenFields::new([seed; 32], names.iter().map(field).collect()).expect("within the rules")
    }

    fn slices(byte: u8, lock: Option<&HiddenFields>) -> Slices {
        let lock = lock.map(|fields| {
            let mut manifest = Manifest::new("tool", "1.0.0");
            manifest.hidden = Some(fields.commit().expect("within the rules"));
            manifest
        });
        Slices { id: WideDigest::from_bytes([byte; 64]), pieces: vec![vec![byte]], lock }
    }

    fn permit(fields: &HiddenFields, field: u8) -> Want {
        Want::Permit(wire::to_bytes(&fields.open(field).expect("a field")))
    }

    #[test]
    fn a_locked_capsule_is_for_those_who_open_its_field() {
        let (mine, other) = (fields(7, &["licence", Manifest::PERMIT_FIELD]), fields(8, &["payload"]));
        let locked = slices(1, Some(&mine));
        let chunk = Response::Chunk { index: 0, bytes: vec![1] };
        let mut permitted = None;
        let refused = [Want::Chunk(0), permit(&mine, 0), permit(&other, 0), Want::Permit(vec![0; 64])];
        for want in refused {
            assert_eq!(locked.answer(&want, &mut permitted), Response::NotFound, "{want:?}");
        }
        assert_eq!(locked.answer(&permit(&mine, 1), &mut permitted), Response::Permitted);
        assert_eq!(locked.answer(&Want::Chunk(0), &mut permitted), chunk);
        assert_eq!(locked.answer(&Want::Chunk(1), &mut permitted), Response::NotFound);
        // A permit is for one capsule.
        let mut elsewhere = Some(WideDigest::from_bytes([2; 64]));
        assert_eq!(locked.answer(&Want::Chunk(0), &mut elsewhere), Response::NotFound);
    }

    #[test]
    fn what_has_no_lock_is_for_everybody() {
        let open = slices(1, None);
        let chunk = Response::Chunk { index: 0, bytes: vec![1] };
        assert_eq!(open.answer(&Want::Chunk(0), &mut None), chunk);
        assert_eq!(open.answer(&Want::Permit(Vec::new()), &mut None), Response::Permitted);
    }
}
