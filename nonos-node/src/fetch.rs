//! Fetching over circuits: chunks of a capsule, and inputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nonos_capsule::{CHUNK_BYTES, Capsule, Chunk, Head};
use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{NodeId, Unverified, Verified, WideDigest};
use nonos_ledger::{Code, Op};
use nonos_mesh::fetch::{Config, Fetch, Input, Output, ProviderId, Request, Response, Want};
use nonos_mesh::{FrameDecoder, encode_frame};
use nonos_onion::link::OnionStream;
use nonos_trust::Evidence;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::circuits::{Route, RouteError, port};
use crate::clock;
use crate::event::Event;
use crate::inquiry::{self, InquiryError};
use crate::node::Shared;

/// Circuits one fetch spreads over.
const PATHS: u64 = 2;
/// Circuits that may be lost in one fetch before it gives up.
const LOSSES_MAX: usize = 16;
/// How long nothing may arrive before a fetch gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the provider may take to say that it was paid; promises not confirmed by then are brought again.
const CONFIRMATION: Duration = Duration::from_secs(5);
/// Pause between looks at the fetch machine's clock.
const TICK: Duration = Duration::from_millis(200);
/// Responses of all lanes that may wait to be checked: bounds memory to this many chunks.
const REPLIES_MAX: usize = 64;

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FetchError {
    /// No circuit to the provider.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The capsule's head was not gossiped to this node.
    #[error("the signed head of capsule {0:.16} is not known here")]
    UnknownCapsule(String),
    /// The provider sent what it did not sign. Its fault.
    #[error("provider {provider} sent a {what} that fails its check")]
    Forged {
        /// The provider.
        provider: NodeId,
        /// What it sent.
        what: &'static str,
    },
    /// Circuits were lost again and again.
    #[error("{0} circuits were lost")]
    Losses(usize),
    /// The provider stopped answering.
    #[error("the provider does not answer")]
    Silent,
    /// The provider does not have it, or does not take the permit.
    #[error("the provider does not hold it")]
    NotFound,
    /// More chunks than a fetch may have.
    #[error(transparent)]
    TooMany(#[from] nonos_mesh::fetch::FetchError),
    /// The manifest hides the payload's digest, and no opening of it is for this node.
    #[error("the payload of this capsule is for some, and this node is not among them")]
    NotPermitted,
    /// The provider did not say whether it is.
    #[error("no permit for the payload")]
    Permit(#[from] InquiryError),
    /// The chunks do not make the capsule.
    #[error(transparent)]
    Assemble(#[from] nonos_capsule::AssembleError),
}

/// Standing circuits to one provider.
pub(crate) struct Lanes {
    shared: Arc<Shared>,
    provider: NodeId,
    lanes: BTreeMap<u64, Lane>,
    next: u64,
    avoid: Vec<NodeId>,
    losses: usize,
    replies: mpsc::Receiver<(u64, Reply)>,
    reply_to: mpsc::Sender<(u64, Reply)>,
    /// Payload bytes that passed their check.
    kept_bytes: u64,
}

struct Lane {
    route: Route,
    requests: mpsc::UnboundedSender<Request>,
}

enum Reply {
    Response(Request, Response),
    Down,
}

impl Lanes {
    /// Opens circuits to a provider.
    pub(crate) async fn open(shared: &Arc<Shared>, provider: NodeId) -> Result<Self, FetchError> {
        let (reply_to, replies) = mpsc::channel(REPLIES_MAX);
        let mut lanes = Self {
            shared: shared.clone(),
            provider,
            lanes: BTreeMap::new(),
            next: 0,
            avoid: Vec::new(),
            losses: 0,
            replies,
            reply_to,
            kept_bytes: 0,
        };
        for number in 1..=PATHS {
            let purpose = format!("fetch {number}");
            let route = shared.route_apart(&purpose, provider, &[], &lanes.relays()).await?;
            lanes.add(route).await?;
        }
        Ok(lanes)
    }

    /// Fetches a capsule whose head is known, and checks every chunk before it is kept.
    pub(crate) async fn capsule(&mut self, id: WideDigest) -> Result<Verified<Capsule>, FetchError> {
        let shared = self.shared.clone();
        let head = shared.board().heads.get(&id).cloned();
        let head = head.ok_or_else(|| FetchError::UnknownCapsule(id.to_string()))?;
        let permit = match head.manifest().payload.digest.is_hidden() {
            true => {
                let permit = inquiry::permit(&shared, self.provider, &head).await?;
                Some(wire::to_bytes(&permit.ok_or(FetchError::NotPermitted)?))
            }
            false => None,
        };
        let total = head.chunk_count();
        let mut chunks: BTreeMap<u32, Verified<Chunk>> = BTreeMap::new();
        let keep = |index: u32, bytes: &[u8]| {
            let Ok(chunk) = wire::from_bytes::<Chunk>(bytes) else { return false };
            if chunk.index != index {
                return false;
            }
            let Ok(chunk) = head.check_chunk(Unverified::new(chunk)) else { return false };
            chunks.insert(index, chunk);
            let held = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
            shared.tell(Event::ChunkFetched { capsule: id, held, total });
            true
        };
        self.transfer(*id.as_bytes(), total, keep, permit, "chunk").await?;
        let chunks = chunks.into_values().collect();
        Ok(tokio::task::block_in_place(|| Head::assemble(&head, chunks))?)
    }

    /// Fetches an input by its digest.
    pub(crate) async fn input(&mut self, digest: WideDigest, bytes: u64) -> Result<Vec<u8>, FetchError> {
        let count = u32::try_from(bytes.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX);
        let mut parts: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let keep = |index: u32, part: &[u8]| {
            let offset = u64::from(index) * CHUNK_BYTES as u64;
            let expected = bytes.saturating_sub(offset).min(CHUNK_BYTES as u64);
            if part.len() as u64 != expected {
                return false;
            }
            parts.insert(index, part.to_vec());
            true
        };
        self.transfer(*digest.as_bytes(), count, keep, None, "input").await?;
        let input: Vec<u8> = parts.into_values().flatten().collect();
        if WideDigest::of_bytes(&input) != digest {
            self.shared.refuse("input", "input_digest", self.provider, Evidence::ChunkInvalid);
            return Err(FetchError::Forged { provider: self.provider, what: "input" });
        }
        Ok(input)
    }

    async fn transfer(
        &mut self,
        content: [u8; 64],
        count: u32,
        mut keep: impl FnMut(u32, &[u8]) -> bool,
        permit: Option<Vec<u8>>,
        what: &'static str,
    ) -> Result<(), FetchError> {
        if count == 0 {
            return Ok(());
        }
        let (begin, before) = (Instant::now(), self.kept_bytes);
        let mut fetch = Fetch::new(Config::default(), &content, count, clock::random())?;
        // Answers come in the order of the requests, so a lane that shows it first may ask at once.
        let show_permit = |lanes: &Self, lane| {
            if let Some(permit) = &permit {
                lanes.ask(lane, content, Want::Permit(permit.clone()));
            }
        };
        for &lane in self.lanes.keys() {
            show_permit(self, lane);
            fetch.handle(begin.elapsed(), Input::ProviderUp { provider: ProviderId(lane), have: None });
        }
        let mut heard = Instant::now();
        loop {
            while let Some(output) = fetch.poll() {
                match output {
                    Output::Request { provider, index } => self.ask(provider.0, content, Want::Chunk(index)),
                    Output::Verify { index, bytes, .. } => {
                        let input = match keep(index, &bytes) {
                            true => {
                                self.kept_bytes += bytes.len() as u64;
                                Input::Verified { index }
                            }
                            false => {
                                self.shared.refuse(
                                    what,
                                    "chunk_proof",
                                    self.provider,
                                    Evidence::ChunkInvalid,
                                );
                                return Err(FetchError::Forged { provider: self.provider, what });
                            }
                        };
                        fetch.handle(begin.elapsed(), input);
                    }
                    Output::Done => {
                        let bytes = self.kept_bytes - before;
                        self.shared.hops().delivered(bytes, begin.elapsed());
                        self.shared.observe(self.provider, Evidence::ChunkServed);
                        return Ok(());
                    }
                    // A late answer is dropped by the machine itself.
                    _ => {}
                }
            }
            let reply = tokio::time::timeout(TICK, self.replies.recv()).await;
            let input = match reply {
                Ok(Some((lane, Reply::Response(request, response)))) => {
                    heard = Instant::now();
                    // Duplicates asked for at the end of one transfer may arrive in the next one.
                    match request.capsule == content {
                        true => answer(lane, &request, response)?,
                        false => None,
                    }
                }
                Ok(Some((lane, Reply::Down))) => {
                    fetch.handle(begin.elapsed(), Input::ProviderDown { provider: ProviderId(lane) });
                    let lane = self.replace(lane).await?;
                    show_permit(self, lane);
                    heard = Instant::now();
                    Some(Input::ProviderUp { provider: ProviderId(lane), have: None })
                }
                Ok(None) => return Err(FetchError::Silent),
                Err(_) if heard.elapsed() > PATIENCE => return Err(FetchError::Silent),
                Err(_) => Some(Input::Tick),
            };
            if let Some(input) = input {
                fetch.handle(begin.elapsed(), input);
            }
        }
    }

    /// Pays the seeder for what was kept and the relays for what they carried, then closes.
    pub(crate) async fn settle(mut self) {
        let shared = self.shared.clone();
        let ids: Vec<u64> = self.lanes.keys().copied().collect();
        let mut down = BTreeSet::new();
        let mut due = shared.prices.quote(Op::Seeding, self.kept_bytes).as_nano();
        for id in ids {
            let Some(lane) = self.lanes.get(&id) else { continue };
            let mut promises = shared.promise_relays(&lane.route).await;
            let amount = u64::try_from(std::mem::take(&mut due)).unwrap_or(u64::MAX);
            let promise = shared.promise(self.provider, amount, Code::Seeding);
            self.ask(id, [0; 64], Want::Pay(wire::to_bytes(&promise.voucher)));
            promises.add(promise);
            let delivered = self.paid(id, &mut down).await;
            shared.settle(promises, delivered).await;
        }
        for lane in self.lanes.values() {
            lane.route.circuit.close();
        }
    }

    /// Whether the provider says on this lane that it was paid; `down` are lanes known to be lost.
    async fn paid(&mut self, id: u64, down: &mut BTreeSet<u64>) -> bool {
        let answer = async {
            if down.contains(&id) {
                return false;
            }
            while let Some((lane, reply)) = self.replies.recv().await {
                match reply {
                    Reply::Response(_, Response::Paid) if lane == id => return true,
                    Reply::Down if lane == id => return false,
                    Reply::Down => drop(down.insert(lane)),
                    Reply::Response(..) => {}
                }
            }
            false
        };
        tokio::time::timeout(CONFIRMATION, answer).await.unwrap_or(false)
    }

    fn ask(&self, lane: u64, capsule: [u8; 64], want: Want) {
        if let Some(lane) = self.lanes.get(&lane) {
            // A lane that is gone reports so by itself.
            let _ = lane.requests.send(Request { capsule, want });
        }
    }

    async fn replace(&mut self, id: u64) -> Result<u64, FetchError> {
        self.losses += 1;
        if self.losses > LOSSES_MAX {
            return Err(FetchError::Losses(self.losses));
        }
        let Some(lost) = self.lanes.remove(&id) else { return Err(FetchError::Silent) };
        let apart = self.relays();
        let route = self.shared.reroute(&lost.route, &mut self.avoid, &apart).await?;
        self.add(route).await
    }

    /// The relays of all lanes: one that fails, or watches, should have one lane at most.
    fn relays(&self) -> Vec<NodeId> {
        self.lanes.values().flat_map(|lane| &lane.route.view.relays).copied().collect()
    }

    async fn add(&mut self, route: Route) -> Result<u64, FetchError> {
        let id = self.next;
        self.next += 1;
        let stream = route.circuit.open(port::FETCH).await.map_err(RouteError::from)?;
        let (requests, inbox) = mpsc::unbounded_channel();
        tokio::spawn(drive(id, stream, inbox, self.reply_to.clone()));
        self.lanes.insert(id, Lane { route, requests });
        Ok(id)
    }
}

fn answer(lane: u64, request: &Request, response: Response) -> Result<Option<Input>, FetchError> {
    let provider = ProviderId(lane);
    match (&request.want, response) {
        (Want::Chunk(_), Response::Chunk { index, bytes }) => {
            Ok(Some(Input::Chunk { provider, index, bytes }))
        }
        (Want::Chunk(index), Response::Busy) => Ok(Some(Input::Refused { provider, index: *index })),
        (Want::Chunk(_) | Want::Permit(_), Response::NotFound) => Err(FetchError::NotFound),
        _ => Ok(None),
    }
}

/// Carries requests out and responses back, in order, until the stream or the fetch ends.
async fn drive(
    lane: u64,
    stream: OnionStream,
    mut requests: mpsc::UnboundedReceiver<Request>,
    replies: mpsc::Sender<(u64, Reply)>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut decoder = FrameDecoder::new(Response::MAX_BYTES);
    let mut asked: VecDeque<Request> = VecDeque::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return };
                let Ok(frame) = encode_frame(&wire::to_bytes(&request), Request::MAX_BYTES) else { break };
                asked.push_back(request);
                if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
            read = reader.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { break };
                let Some(bytes) = buffer.get(..read) else { break };
                decoder.push(bytes);
                let mut broken = false;
                while let Some(frame) = decoder.next_frame().unwrap_or_else(|_| { broken = true; None }) {
                    let (Ok(response), Some(request)) = (wire::from_bytes(&frame), asked.pop_front()) else {
                        broken = true;
                        break;
                    };
                    if replies.send((lane, Reply::Response(request, response))).await.is_err() {
                        return;
                    }
                }
                if broken {
                    break;
                }
            }
        }
    }
    // Nobody to tell if the fetch has ended.
    let _ = replies.send((lane, Reply::Down)).await;
}
