use std::time::Duration;

use nonos_identity::{NetworkId, Timestamp};
use nonos_mesh::testing::{check_store, config};
use nonos_mesh::{
    Command, ConfigError, Event, HelloError, Input, Item, ItemKind, LinkId, MemoryStore, Mesh, Now, Output,
    TransportId, Verdict,
};

const LINK: LinkId = LinkId(1);

fn at(millis: u64) -> Now {
    Now { mono: Duration::from_millis(millis), wall: Timestamp::from_secs(1_700_000_000 + millis / 1000) }
}

fn mesh(network: &str, number: u64) -> Mesh {
    let config = config(&NetworkId::from_name(network), number, at(0).wall);
    Mesh::new(config, at(0), [number as u8; 32]).expect("valid")
}

fn transport(number: u64) -> TransportId {
    TransportId::new(number.to_be_bytes()).expect("valid")
}

fn drain(mesh: &mut Mesh) -> Vec<Output> {
    std::iter::from_fn(|| mesh.poll()).collect()
}

fn frames(outputs: &[Output]) -> Vec<Vec<u8>> {
    let frame = |o: &Output| match o {
        Output::Send { frame, .. } => Some(frame.to_vec()),
        _ => None,
    };
    outputs.iter().filter_map(frame).collect()
}

/// What `mesh` refuses a link for, after it got `frame` from transport `number`.
fn refusal(mesh: &mut Mesh, number: u64, frame: Vec<u8>) -> Option<HelloError> {
    mesh.handle(at(1), Input::LinkUp { link: LINK, remote: transport(number), outbound: false });
    mesh.handle(at(2), Input::Frame { link: LINK, bytes: frame });
    let outputs = drain(mesh);
    let refused = outputs.iter().find_map(|o| match o {
        Output::Event(Event::LinkRefused { error, .. }) => Some(error.clone()),
        _ => None,
    });
    assert_eq!(refused.is_some(), outputs.iter().any(|o| matches!(o, Output::Close { .. })));
    assert_eq!(refused.is_none(), mesh.links().len() == 1);
    refused
}

/// The hello that node `number` says to node 1.
fn hello(network: &str, number: u64, to: u64) -> Vec<u8> {
    let mut sender = mesh(network, number);
    sender.handle(at(0), Input::LinkUp { link: LINK, remote: transport(to), outbound: true });
    frames(&drain(&mut sender)).remove(0)
}

#[test]
fn a_hello_brings_a_link_up() {
    assert_eq!(refusal(&mut mesh("a", 1), 2, hello("a", 2, 1)), None);
}

#[test]
fn wrong_hellos_are_refused() {
    let foreign = refusal(&mut mesh("a", 1), 2, hello("b", 2, 1));
    assert_eq!(foreign, Some(HelloError::ForeignNetwork(NetworkId::from_name("b"))));
    // Node 3 relays what node 2 said to it.
    assert_eq!(refusal(&mut mesh("a", 1), 3, hello("a", 2, 3)), Some(HelloError::Relayed));
    // Node 3 shows node 1 what node 2 said to node 1.
    assert_eq!(refusal(&mut mesh("a", 1), 3, hello("a", 2, 1)), Some(HelloError::Relayed));
    assert_eq!(refusal(&mut mesh("a", 1), 1, hello("a", 1, 1)), Some(HelloError::Own));
    assert!(matches!(refusal(&mut mesh("a", 1), 2, vec![0xff]), Some(HelloError::Decode(_))));
}

#[test]
fn every_bit_of_a_hello_counts() {
    let good = hello("a", 2, 1);
    for byte in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        assert!(refusal(&mut mesh("a", 1), 2, bad).is_some(), "byte {byte}");
    }
}

#[test]
fn nothing_is_taken_before_the_hello() {
    let mut one = mesh("a", 1);
    let mut two = mesh("a", 2);
    one.handle(at(0), Input::LinkUp { link: LINK, remote: transport(2), outbound: true });
    two.handle(at(0), Input::LinkUp { link: LINK, remote: transport(1), outbound: false });
    let first = frames(&drain(&mut one)).remove(0);
    two.handle(at(0), Input::Frame { link: LINK, bytes: first });
    // The second frame of node 2 is a ping: node 1 gets it without the hello.
    let ping = frames(&drain(&mut two)).remove(1);
    assert_eq!(refusal(&mut mesh("a", 1), 2, ping), Some(HelloError::Order));
}

#[test]
fn a_silent_connection_is_closed() {
    let mut one = mesh("a", 1);
    one.handle(at(0), Input::LinkUp { link: LINK, remote: transport(2), outbound: false });
    drain(&mut one);
    one.handle(at(4_999), Input::Tick);
    assert!(!drain(&mut one).iter().any(|o| matches!(o, Output::Close { .. })));
    one.handle(at(5_000), Input::Tick);
    assert!(drain(&mut one).iter().any(|o| matches!(o, Output::Close { .. })));
}

#[test]
fn own_items_are_checked_and_stored_only_when_accepted() {
    let mut one = mesh("a", 1);
    let item = Item::new(ItemKind::Manifest, &b"m"[..]).expect("short");
    for (verdict, stored) in [(Verdict::Defer, false), (Verdict::Accept, true)] {
        one.handle(at(1), Input::Command(Command::Publish(item.clone())));
        let outputs = drain(&mut one);
        let [Output::Check { ticket, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
        one.handle(at(2), Input::Checked { ticket: *ticket, verdict });
        let outputs = drain(&mut one);
        assert_eq!(outputs.iter().any(|o| matches!(o, Output::Store(_))), stored, "{verdict:?}");
        assert_eq!(one.digests().iter().map(|d| d.count).sum::<u64>(), u64::from(stored));
    }
    one.handle(at(3), Input::StoreFailed { id: item.id() });
    assert_eq!(one.digests().iter().map(|d| d.count).sum::<u64>(), 0);
}

#[test]
fn configurations_are_checked() {
    let network = NetworkId::from_name("a");
    let fresh = || config(&network, 1, at(0).wall);
    let mut wrong = fresh();
    wrong.signer = config(&network, 2, at(0).wall).signer;
    assert_eq!(Mesh::new(wrong, at(0), [0; 32]).err(), Some(ConfigError::Signer));
    let mut wrong = fresh();
    wrong.transport = TransportId::default();
    assert!(matches!(Mesh::new(wrong, at(0), [0; 32]), Err(ConfigError::Field { field: "transport", .. })));
}

#[test]
fn the_memory_store_keeps_the_contract() {
    check_store(&MemoryStore::new());
}
