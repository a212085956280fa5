use core::time::Duration;

use nonos_identity::wire::{self, Wire};
use nonos_identity::{
    Epoch, NetworkId, NodeId, OnionAddress, OnionNetwork, SigningKey, StaticSecret, Timestamp,
};
use zeroize::Zeroizing;

use crate::cell::{self, BODY_BYTES, Body, CELL_BYTES, Cell, Command, Fragment};
use crate::config::Config;
use crate::conflux;
use crate::conflux::frame::{Frame, Hello};
use crate::descriptor::RelayDescriptor;
use crate::epoch::EpochKeys;
use crate::guard::GuardSet;
use crate::handshake::{Context, HandshakeError, Initiator, Responder, Suite};
use crate::machine::{Input, LinkId, Machine, Output};
use crate::message::{Kind, Message};
use crate::multipath::Manifest;
use crate::multipath::frame::{Reply, Request};
use crate::padding::Ask;
use crate::records::{CREATE_BYTES, Create, Pending, RECORD_BYTES, Routing, Slot};
use crate::rendezvous::frame::{
    ANSWER_BYTES, Answer, CHALLENGE_BYTES, ESTABLISH_BYTES, Establish, INTRODUCE_BYTES, Introduce,
};
use crate::rendezvous::handshake as meeting;
use crate::rendezvous::puzzle::Effort;
use crate::service::{
    Client, DirectoryIndex, Outer, PeriodKeys, ServiceDescriptor, SharedRandom, SignedDescriptor, TimePeriod,
    validate_for_store,
};
use crate::transit::{Commitment, Hints, Receipt, Share, SignedReceipt};
use crate::vanguard::Vanguards;

/// Pads or cuts bytes to a length.
fn sized<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

/// A well-formed CREATE cell with some content, for mutation.
#[must_use]
pub fn valid_cell(content: &[u8]) -> Vec<u8> {
    let mut body = [0; BODY_BYTES];
    let data = content.get(..content.len().min(cell::FRAGMENT_BYTES)).unwrap_or_default();
    Fragment { first: true, more: false, data: if data.is_empty() { &[0] } else { data } }.write(&mut body);
    [&cell::header(7, Command::Create)[..], &body].concat()
}

/// The body of a well-formed DATA message with some content, for mutation.
#[must_use]
pub fn valid_message(content: &[u8]) -> Vec<u8> {
    let mut body = [0; BODY_BYTES];
    let data = content.get(..content.len().min(crate::message::DATA_BYTES)).unwrap_or_default();
    Message { stream: 1, kind: Kind::Data, more: false, data }.write(&mut body);
    body.to_vec()
}

/// Reads a cell; what is accepted is written again and must be the same bytes.
///
/// # Panics
/// If the decoder is not canonical.
pub fn fuzz_cell(bytes: &[u8]) {
    let original: [u8; CELL_BYTES] = sized(bytes);
    let mut cell = original;
    let Ok(cell) = Cell::parse(&mut cell) else { return };
    assert_eq!(original.first_chunk(), Some(&cell::header(cell.circuit, cell.command)));
    let mut again: Body = [0; BODY_BYTES];
    match cell.command {
        Command::Create | Command::Created => {
            let Ok(fragment) = Fragment::read(cell.body) else { return };
            fragment.write(&mut again);
            assert_eq!(again, *cell.body);
        }
        Command::Destroy => {
            let _ = cell::read_reason(cell.body);
        }
        Command::Ack => {
            let Ok(ack) = cell::read_ack(cell.body) else { return };
            cell::write_ack(&mut again, ack);
            assert_eq!(again, *cell.body);
        }
        Command::Relay => {}
    }
}

/// Reads a message; what is accepted is written again and must be the same bytes.
///
/// # Panics
/// If the decoder is not canonical.
pub fn fuzz_message(bytes: &[u8]) {
    let body: Body = sized(bytes);
    let Ok(message) = Message::read(&body) else { return };
    let mut again = body;
    message.write(&mut again);
    assert_eq!(again, body);
    if let Ok(hints) = Hints::read(message.data) {
        assert_eq!(hints.to_bytes(), message.data);
    }
    if let Ok(ask) = Ask::read(message.data) {
        assert_eq!(ask.to_bytes(), message.data);
    }
}

/// Reads a commitment, a receipt and a share of it; what is accepted is written again and must be the same
/// bytes, and proves nothing.
///
/// # Panics
/// If a decoder is not canonical.
pub fn fuzz_transit(bytes: &[u8]) {
    fuzz_wire::<Commitment>(bytes);
    fuzz_wire::<SignedReceipt>(bytes);
    fuzz_wire::<Share>(bytes);
    if let Ok(receipt) = SignedReceipt::parse(bytes) {
        assert!(SignedReceipt::check(receipt, &NetworkId::from_name("fuzz")).is_err());
    }
    if let Ok(share) = wire::from_bytes::<Share>(bytes) {
        let root = nonos_identity::Digest::from_bytes([7; 32]);
        let epoch = Epoch::from_number(1);
        let receipt = Receipt { epoch, count: 9, root };
        assert!(share.check(&receipt, &Commitment { epoch, batches: 9, root }).is_err());
    }
}

/// Reads a descriptor; what is accepted is written again and must be the same bytes.
///
/// # Panics
/// If the decoder is not canonical.
pub fn fuzz_descriptor(bytes: &[u8]) {
    fuzz_wire::<RelayDescriptor>(bytes);
}

/// Reads a set of guards; what is accepted is written again and must be the same bytes.
///
/// # Panics
/// If the decoder is not canonical.
pub fn fuzz_guards(bytes: &[u8]) {
    fuzz_wire::<GuardSet>(bytes);
}

/// Reads vanguards; what is accepted is written again and must be the same bytes.
///
/// # Panics
/// If the decoder is not canonical.
pub fn fuzz_vanguards(bytes: &[u8]) {
    fuzz_wire::<Vanguards>(bytes);
}

/// Reads a service descriptor, its outer layer and its content; what is accepted is written again and must be
/// the same bytes. Shows the bytes to a client and a directory too.
///
/// # Panics
/// If a decoder is not canonical.
pub fn fuzz_service_descriptor(bytes: &[u8]) {
    fuzz_wire::<SignedDescriptor>(bytes);
    fuzz_wire::<Outer>(bytes);
    fuzz_wire::<ServiceDescriptor>(bytes);
    let (network, now) = (NetworkId::from_name("fuzz"), Timestamp::from_secs(1_740_000_000));
    let index = DirectoryIndex::from_bytes([1; 32]);
    let random = |_| Some(SharedRandom::from_bytes([2; 32]));
    assert!(validate_for_store(&network, now, &random, index, bytes).is_err());
    let address = OnionAddress::new(OnionNetwork::Mesh, SigningKey::from_seed(&[3; 32]).public());
    let client = Client::new(network, &address, None).expect("an address of the mesh");
    assert!(client.open(TimePeriod::at(now), bytes, now, None).is_err());
}

fn fuzz_wire<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = wire::from_bytes::<T>(bytes) {
        assert_eq!(wire::to_bytes(&value), bytes);
    }
}

/// Reads a manifest; what is accepted is written again and must be the same bytes, and its stripes
/// must be the object.
///
/// # Panics
/// If the decoder is not canonical.
pub fn fuzz_manifest(bytes: &[u8]) {
    let Ok(manifest) = wire::from_bytes::<Manifest>(bytes) else { return };
    assert_eq!(wire::to_bytes(&manifest), bytes);
    let end = (0..manifest.stripes()).fold(0, |end, stripe| {
        assert_eq!(manifest.range(stripe).start, end);
        assert!(manifest.shard_bytes(stripe) > 0);
        manifest.range(stripe).end
    });
    assert_eq!(end, manifest.object_bytes());
}

/// Reads a request and a reply of a transfer; what is accepted is written again and must be the
/// same bytes.
///
/// # Panics
/// If a decoder is not canonical.
pub fn fuzz_multipath(bytes: &[u8]) {
    let request = sized(bytes);
    if let Ok(read) = Request::read(&request) {
        assert_eq!(read.write(), request);
    }
    let reply = sized(bytes);
    if let Ok(read) = Reply::read(&reply) {
        assert_eq!(read.write(), reply);
    }
}

/// Reads the first frame of a leg and those that follow; what is accepted is written again and must be the same
/// bytes. Shows them to a session too, whose memory is bounded whatever they are.
///
/// # Panics
/// If a decoder is not canonical, or the bound is broken.
pub fn fuzz_conflux(bytes: &[u8]) {
    let hello = sized(bytes);
    if let Ok(read) = Hello::read(&hello) {
        let mut again = Vec::new();
        read.write(&mut again);
        assert_eq!(again, hello);
    }
    let mut rest = bytes;
    while let Ok(Some((frame, length))) = Frame::read(rest) {
        let mut again = Vec::new();
        frame.write(&mut again);
        assert_eq!(rest.get(..length), Some(again.as_slice()));
        rest = rest.get(length..).unwrap_or_default();
    }
    let (config, leg) = (conflux::Config::default(), conflux::LegId(1));
    let mut now = Duration::from_secs(1);
    let mut session = conflux::Session::accept(&config, now).expect("default limits");
    let opening = [&[1][..], &[7; 32], &[0; 8], &[0, 0, 0, 0, 0, 1, 0, 0]].concat();
    let opening = Hello::read(&sized(&opening)).expect("a first frame");
    session.handle(now, conflux::Input::LegUp { leg, hello: Some(&opening) });
    for chunk in bytes.chunks(61) {
        // Something to acknowledge.
        let _ = session.write(&[5; 3000]);
        session.transmit(now, leg, 5000, &mut Vec::new());
        session.handle(now, conflux::Input::Received { leg, bytes: chunk });
        assert!(session.held_bytes() <= config.receive_max_bytes + config.send_bytes + (64 << 10));
        now += Duration::from_millis(7);
    }
}

/// Frames of a leg with some content, for mutation.
#[must_use]
pub fn valid_frames(content: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    let (first, second) = content.split_at(content.len() / 2);
    let second_at = first.len() as u64;
    let end = content.len() as u64;
    for (offset, bytes) in [(second_at, second), (0, first)] {
        if !bytes.is_empty() {
            Frame::Data { offset, bytes }.write(&mut frames);
        }
    }
    Frame::Ack { received: 1, next: 3000, limit: 1 << 20 }.write(&mut frames);
    Frame::Fin { offset: end }.write(&mut frames);
    Frame::Retire.write(&mut frames);
    frames
}

/// Offers bytes as both messages of a handshake.
///
/// # Panics
/// If bytes that no party made complete a handshake.
pub fn fuzz_handshake(bytes: &[u8]) {
    let network = NetworkId::from_name("fuzz");
    let context = Context {
        suite: Suite::Hybrid,
        epoch: Epoch::from_number(1),
        relay: NodeId::from_bytes([1; 32]),
        network: &network,
        slot: Slot::new(0).expect("the first slot"),
    };
    assert!(Responder::read(&context, &[2; 32], &sized(bytes), &[3; 32]).is_err());
    let start = Initiator::start(&context, &[9; 32], &[0; _], &[4; 32]);
    let (initiator, _) = start.expect("any key is a key");
    assert!(initiator.finish(&sized(bytes)).is_err());
}

/// Reads a CREATE message, a hop's routing and the answer to a build; what is accepted is written
/// again and must be the same bytes.
///
/// # Panics
/// If a decoder is not canonical, or if bytes that no hop made are an answer.
pub fn fuzz_records(bytes: &[u8]) {
    let (network, epoch) = (NetworkId::from_name("fuzz"), Epoch::from_number(1));
    let message: [u8; CREATE_BYTES] = sized(bytes);
    for message in [bytes, &message] {
        let Ok(create) = Create::read(message) else { continue };
        assert_eq!(create.to_bytes(), message);
        let refused = create.open(NodeId::from_bytes([1; 32]), &network, &[2; 32], &[3; 32]);
        assert_eq!(refused.err(), Some(HandshakeError));
    }
    let routing = sized(bytes);
    if let Ok(read) = Routing::read(&routing) {
        assert_eq!(*read.to_bytes(), routing);
    }
    let path = [(NodeId::from_bytes([1; 32]), [9; 32]), (NodeId::from_bytes([2; 32]), [9; 32])];
    for answer in [bytes, message.get(10..).unwrap_or_default()] {
        let (pending, _) = Pending::start(&network, epoch, &path, &[4; 32]).expect("any key is a key");
        assert_eq!(pending.finish(answer).err(), Some(HandshakeError));
    }
}

/// A CREATE message that no hop can open, for mutation.
#[must_use]
pub fn valid_create(content: &[u8]) -> Vec<u8> {
    let mut message: [u8; CREATE_BYTES] = sized(content);
    let Some(slot) = message.get_mut(9) else { return message.to_vec() };
    *slot %= 6;
    let request = 50 + usize::from(*slot) * RECORD_BYTES;
    message.copy_within(request..request + 32, 18);
    message.to_vec()
}

/// A hop's routing, for mutation.
#[must_use]
pub fn valid_routing(content: &[u8]) -> Vec<u8> {
    let mut routing: [u8; 74] = sized(content);
    if let Some(flags) = routing.first_mut() {
        *flags = 0;
    }
    if let Some(slot) = routing.get_mut(33) {
        *slot %= 6;
    }
    [&routing[..], &[0; 6]].concat()
}

/// Feeds a node arbitrary cells over a link. The first bytes choose the commands.
///
/// # Panics
/// If the machine asks for what no driver could do.
pub fn fuzz_machine(bytes: &[u8]) {
    let now = Duration::from_secs(600_000);
    let wall = Timestamp::from_secs(now.as_secs());
    let keys = EpochKeys::new(Zeroizing::new([5; 32]), wall);
    let config = Config::new(NetworkId::from_name("fuzz"), NodeId::from_bytes([1; 32]));
    let mut machine = Machine::new(config, keys, now, [6; 32]).expect("default limits");
    let link = LinkId(1);
    machine.handle(now, Input::LinkUp { link, peer: NodeId::from_bytes([2; 32]), opened: false });
    for (i, chunk) in bytes.chunks(64).enumerate() {
        let mut cell: [u8; CELL_BYTES] = sized(chunk);
        // Mostly ids the peer may choose, so that the input gets past the first check.
        if i % 4 != 0 {
            cell[0] |= 0x80;
            cell[5] = 0;
        }
        machine.handle(now + Duration::from_secs(i as u64), Input::Cells { link, bytes: cell.to_vec() });
        while let Some(output) = machine.poll() {
            match output {
                Output::Cells { link, bytes } => {
                    assert!(bytes.len() % CELL_BYTES == 0 && !bytes.is_empty());
                    machine.handle(now, Input::Sent { link, buffer: bytes });
                }
                Output::CloseLink { .. } => return,
                _ => {}
            }
        }
    }
}

/// Reads every message of a hub and the content of an introduction; what is accepted is written again and must
/// be the same bytes. Shows the bytes to a hub as a signature and to a service as an introduction too, which both
/// must refuse.
///
/// # Panics
/// If a decoder is not canonical, or something is accepted that nobody can have made.
pub fn fuzz_introduction(bytes: &[u8]) {
    let network = NetworkId::from_name("fuzz");
    let relay = NodeId::from_bytes([1; 32]);
    let establish: [u8; ESTABLISH_BYTES] = sized(bytes);
    if let Ok(read) = Establish::read(&establish) {
        assert_eq!(read.write(), establish);
        assert!(read.check(&network, relay, &[2; CHALLENGE_BYTES]).is_err());
    }
    let introduce: [u8; INTRODUCE_BYTES] = sized(bytes);
    if let Ok(read) = Introduce::read(&introduce) {
        assert_eq!(read.write(), introduce);
    }
    let answer: [u8; ANSWER_BYTES] = sized(bytes);
    if let Ok(read) = Answer::read(&answer) {
        assert_eq!(read.write(), answer);
    }
    fuzz_wire::<meeting::Introduction>(bytes);
    if let Some(content) = meeting::read_content(bytes) {
        assert!(wire::to_bytes(&content).len() < bytes.len());
    }
    let service = SigningKey::from_seed(&[3; 32]).public();
    let context = meeting::Context {
        network: &network,
        relay,
        auth_key: &service,
        keys: &PeriodKeys::of(&network, &service, TimePeriod::from_number(20_000)),
    };
    let secret = StaticSecret::from_bytes(&[4; 32]);
    assert!(meeting::Responder::read(&context, &secret, &sized(bytes), &[5; 32]).is_err());
}

/// A well-formed message of a client to a hub, for mutation.
#[must_use]
pub fn valid_introduction(seed: &[u8; 32]) -> Vec<u8> {
    let network = NetworkId::from_name("fuzz");
    let service = SigningKey::from_seed(&[6; 32]).public();
    let context = meeting::Context {
        network: &network,
        relay: NodeId::from_bytes([1; 32]),
        auth_key: &service,
        keys: &PeriodKeys::of(&network, &service, TimePeriod::from_number(20_000)),
    };
    let key = StaticSecret::from_bytes(&[4; 32]).public();
    let started = meeting::Initiator::start(&context, &key, &introduction(seed), seed);
    let message =
        |(_, sealed)| Introduce { auth_key: *service.as_bytes(), effort: Effort::NONE, nonce: 0, sealed };
    started.map(message).map(|message| message.write()).unwrap_or_default()
}

/// The content of an introduction, as it is encrypted, for mutation.
#[must_use]
pub fn valid_introduction_content(seed: &[u8; 32]) -> Vec<u8> {
    wire::to_bytes(&introduction(seed))
}

fn introduction(seed: &[u8; 32]) -> meeting::Introduction {
    let [first, ..] = *seed;
    let epoch = Epoch::from_number(u64::from(first));
    let rendezvous = meeting::RelayHint { relay: NodeId::from_bytes(*seed), onion_key: *seed, epoch };
    meeting::Introduction { rendezvous, cookie: *seed, port: 80 }
}
