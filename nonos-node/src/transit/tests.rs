use nonos_identity::{Certificate, Digest, NetworkId, NodeId, Role, SigningKey, Timestamp, Unverified, wire};
use nonos_onion::link::{LocalCircuitId, Transit as Event, Transits};
use nonos_onion::testing::{Network, Node};
use nonos_onion::transit::{BATCH_CELLS, Commitment, Opening, Promise, ShareError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::debt::{ProofError, Proven};
use super::file::Batch;
use super::relay::Going;
use super::*;
use crate::clock;
use crate::records::check_voucher;

/// What each relay can prove, far more than it carries here.
const BATCHES: u16 = 16;
const NANO: u64 = 256;

fn mesh() -> NetworkId {
    NetworkId::from_name("transit")
}

/// A relay's node, its epoch signer and its certificate.
struct Signer {
    node: NodeId,
    key: SigningKey,
    certificate: Certificate,
}

fn signer(number: u8) -> Signer {
    let (root, key) = (SigningKey::from_seed(&[number; 32]), SigningKey::from_seed(&[number | 0x80; 32]));
    let lifetime = Certificate::MAX_LIFETIME;
    let certificate = Certificate::issue(&root, &key, Role::EpochSigner, 1, clock::now(), lifetime, &mesh());
    Signer { node: root.public().node_id(), key, certificate: certificate.expect("within the rules") }
}

/// What a relay knows of one circuit.
type Proof = (Promise, Vec<Opening>);

/// What the client promised, what the relay has proven, and the relay's number for the circuit.
type Carried = (Commitment, Proof, LocalCircuitId);

/// Carries bytes over a real circuit of two relays, there and back.
async fn carried(nodes: &mut [Node], relays: &mut [Transits; 2], bytes: usize) -> Vec<Carried> {
    let path = nodes.iter().skip(1).map(|node| node.descriptor.clone()).collect();
    let circuit = nodes[0].onion.build(path).await.expect("a circuit");
    let commitments = circuit.commitments().await;
    let (opened, incoming) = tokio::join!(circuit.open(1), nodes[3].incoming.recv());
    let (near, far) = (opened.expect("a stream"), incoming.expect("a stream").stream);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(far);
        tokio::io::copy(&mut read, &mut write).await
    });
    let sent = vec![7; bytes];
    let mut back = vec![0; bytes];
    let (mut read, mut write) = tokio::io::split(near);
    let (received, written) = tokio::join!(read.read_exact(&mut back), write.write_all(&sent));
    received.and(written.map(|()| 0)).expect("sent and received");
    // Some of the client's cells end at the first hop.
    let batches = usize::try_from((circuit.cells() - 64) / BATCH_CELLS).expect("few");
    let mut all = Vec::new();
    for (commitment, relay) in commitments.into_iter().zip(relays) {
        let (mut promised, mut openings) = (None, Vec::new());
        while openings.len() < batches {
            match (relay.recv().await.expect("the driver runs"), &promised) {
                (Event::Promised { circuit, promise }, None) => promised = Some((circuit, promise)),
                (Event::Carried { circuit, opening }, Some((id, _))) if circuit == *id => {
                    openings.push(opening)
                }
                // What an earlier circuit carried last.
                _ => {}
            }
        }
        let (id, promise) = promised.expect("came first");
        assert_eq!(promise.commitment(), commitment);
        all.push((commitment, (promise, openings), id));
    }
    all
}

async fn network() -> (Vec<Node>, [Transits; 2]) {
    let network = Network::new();
    let mut nodes = Vec::new();
    for number in 0..4 {
        let adjust = |config: &mut nonos_onion::Config| {
            config.limits.transit_batches = BATCHES;
            config.limits.transit_batches_kept = BATCHES;
        };
        nodes.push(network.add(number, adjust).await);
    }
    let transits = [nodes[1].onion.transits().await, nodes[2].onion.transits().await];
    (nodes, transits)
}

/// What a relay shows of its first circuit, of all that it settles.
fn show(signer: &Signer, proofs: &[&Proof], of: usize) -> Shown {
    let circuits: Vec<_> = proofs.iter().map(|(promise, openings)| (promise, &openings[..])).collect();
    let epoch = circuits[0].0.epoch();
    let (receipt, shares) = SignedReceipt::settle(epoch, &circuits, &signer.key, &mesh());
    Shown { certificate: signer.certificate.clone(), receipt, share: shares[of].clone() }
}

fn debt(signer: &Signer, commitment: Commitment, cells: u64) -> Debt {
    Debt::new(signer.node, commitment, NANO, cells, [9; 32]).expect("long enough")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_is_paid_and_nothing_else() {
    let (mut nodes, mut relays) = network().await;
    let first = carried(&mut nodes, &mut relays, 300_000).await;
    let second = carried(&mut nodes, &mut relays, 200_000).await;
    let [(mine, proof, _), (theirs, their_proof, _)] = &first[..] else { panic!("two relays") };
    let (later, later_proof, _) = &second[0];
    let (relay, neighbour) = (signer(1), signer(2));
    let (now, batches) = (clock::now(), u16::try_from(proof.1.len()).expect("few"));
    assert!(batches >= 2);
    let cells = BATCH_CELLS * u64::from(batches);
    let owed = debt(&relay, *mine, cells);
    let judge = |shown: Shown| owed.judge(shown, &mesh(), now);
    let share = |error| Err(ProofError::Share(error));

    // In whichever place of the receipt, and by every node that reads the bytes.
    for (proofs, of) in [(vec![proof], 0), (vec![later_proof, proof], 1)] {
        let answer = Answer(Some(show(&relay, &proofs, of)));
        let read: Answer = wire::from_bytes(&wire::to_bytes(&answer)).expect("canonical");
        assert_eq!(judge(read.0.expect("shown")).map(|proven| proven.batches), Ok(batches));
    }
    // No byte of it can be altered.
    let bytes = wire::to_bytes(&Answer(Some(show(&relay, &[later_proof, proof], 1))));
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let Ok(Answer(Some(shown))) = wire::from_bytes(&altered) else { continue };
        assert!(judge(shown).is_err(), "byte {at}");
    }
    // The same relay's receipt of another circuit: a replay, whether of an earlier or of a later one.
    assert_eq!(judge(show(&relay, &[later_proof], 0)), share(ShareError::Promised));
    assert_eq!(judge(show(&relay, &[proof, later_proof], 1)), share(ShareError::Promised));
    let replayed = debt(&relay, *later, cells);
    assert_eq!(replayed.judge(show(&relay, &[proof], 0), &mesh(), now), share(ShareError::Promised));
    // The receipt of the neighbour, as it is, and put under the relay's own name.
    assert_eq!(judge(show(&neighbour, &[their_proof], 0)), Err(ProofError::Signer));
    assert_eq!(judge(show(&relay, &[their_proof], 0)), share(ShareError::Promised));
    // The right proof in the neighbour's receipt, and with the neighbour's name on the relay's.
    assert_eq!(judge(show(&neighbour, &[proof], 0)), Err(ProofError::Signer));
    let mut mixed = show(&neighbour, &[proof], 0);
    mixed.certificate = relay.certificate.clone();
    assert_eq!(judge(mixed), Err(ProofError::Signer));
    let mut mixed = show(&relay, &[proof], 0);
    mixed.certificate = neighbour.certificate.clone();
    assert_eq!(judge(mixed), Err(ProofError::Signer));
    // More than it carried: a batch made up, and one in two places.
    for extra in [Opening { own: Digest::from_bytes([1; 32]), ack: Digest::from_bytes([2; 32]) }, proof.1[0]]
    {
        let mut claimed = proof.clone();
        claimed.1.push(extra);
        assert_eq!(judge(show(&relay, &[&claimed], 0)), share(ShareError::Promised));
    }
    // A share under a receipt that does not count it, and a receipt under another mesh's signature.
    let mut swapped = show(&relay, &[proof], 0);
    swapped.receipt = show(&relay, &[later_proof], 0).receipt;
    assert_eq!(judge(swapped), share(ShareError::Counted));
    let mut foreign = show(&relay, &[proof], 0);
    let (other, circuits) = (NetworkId::from_name("other"), [(&proof.0, &proof.1[..])]);
    foreign.receipt = SignedReceipt::settle(mine.epoch, &circuits, &relay.key, &other).0;
    assert!(matches!(judge(foreign), Err(ProofError::Receipt(_))));
    let foreign = owed.judge(show(&relay, &[proof], 0), &other, now);
    assert!(matches!(foreign, Err(ProofError::Certificate(_))), "{foreign:?}");
    assert_ne!(mine, theirs);
}

/// Two neighbours can open all that was promised: the payer's own count bounds what it comes to.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_paid_than_the_payer_counted() {
    let (mut nodes, mut relays) = network().await;
    let carried = carried(&mut nodes, &mut relays, 600_000).await;
    let (commitment, proof, _) = &carried[0];
    assert!(proof.1.len() >= 4);
    let relay = signer(1);
    for (cells, paid) in [(2 * BATCH_CELLS - 1, 2), (2 * BATCH_CELLS, 3)] {
        let judged = debt(&relay, *commitment, cells).judge(show(&relay, &[proof], 0), &mesh(), clock::now());
        assert_eq!(judged.map(|proven| proven.batches), Ok(paid), "{cells} cells");
    }
    assert_eq!(Debt::new(relay.node, *commitment, NANO, BATCH_CELLS - 1, [9; 32]), None);
    assert_eq!(Debt::new(relay.node, *commitment, 0, BATCH_CELLS, [9; 32]), None, "nothing to pay");
}

fn commitment(root: u8) -> Commitment {
    Commitment { epoch: Epoch::from_number(7), batches: BATCHES, root: Digest::from_bytes([root; 32]) }
}

#[test]
fn a_debt_is_one_promise_for_ever() {
    let relay = signer(1);
    let debt = debt(&relay, commitment(1), 2000);
    let proven = Proven { receipt: Digest::from_bytes([4; 32]), batches: 3 };
    let promise = debt.promise(&proven, &mesh());
    let checked =
        check_voucher(Unverified::new(promise.voucher.clone()), relay.node, &mesh()).expect("it holds");
    assert_eq!((checked.amount, promise.payee), (3 * NANO, relay.node));
    assert_eq!(debt.promise(&proven, &mesh()).voucher, promise.voucher);
    assert_eq!(debt.expiry(), Timestamp::from_secs(14 * 600));
    let largest = Debt::new(relay.node, commitment(0xff), u64::MAX, u64::MAX, [0xff; 32]).expect("long");
    let largest = largest.settled(Proven { batches: u16::MAX, ..proven });
    assert_eq!(wire::from_bytes(&wire::to_bytes(&largest)), Ok(largest));
}

proptest::proptest! {
    /// What a relay or a disk holds out is read or refused.
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        if let Ok(answer) = wire::from_bytes::<Answer>(&bytes) {
            proptest::prop_assert_eq!(wire::to_bytes(&answer), bytes.clone());
        }
        if let Ok(debt) = wire::from_bytes::<Debt>(&bytes) {
            proptest::prop_assert_eq!(wire::to_bytes(&debt), bytes);
        }
    }
}

#[test]
fn debts_survive_a_cut_and_are_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(FILE);
    let relay = signer(1);
    let (first, second) = (debt(&relay, commitment(1), 2000), debt(&relay, commitment(2), 2000));
    let settled = first.settled(Proven { receipt: Digest::from_bytes([4; 32]), batches: 3 });
    {
        let file = TransitFile::open(&path).expect("opened");
        assert!(file.owe(&[first, second.clone()]).expect("written"));
        assert!(file.owe(std::slice::from_ref(&settled)).expect("written"));
    }
    let file = TransitFile::open(&path).expect("opened again");
    assert_eq!(file.debts().expect("readable"), [settled, second.clone()]);
    file.clear(&commitment(1).root).expect("cleared");
    assert_eq!(file.debts().expect("readable"), std::slice::from_ref(&second));
    let many: Vec<Debt> = (0_u64..4096)
        .map(|number| {
            let mut root = [3; 32];
            root[..8].copy_from_slice(&number.to_be_bytes());
            debt(&relay, Commitment { root: Digest::from_bytes(root), ..commitment(0) }, 2000)
        })
        .collect();
    assert!(!file.owe(&many).expect("written"), "one was there before");
    assert_eq!(file.counts().expect("readable").1, 4096);
    assert!(file.owe(&[second]).expect("written"), "a known one takes no room");
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_survive_a_cut_and_end_with_their_time() {
    let (mut nodes, mut relays) = network().await;
    let carried = carried(&mut nodes, &mut relays, 300_000).await;
    let (commitment, (promise, openings), _) = &carried[0];
    let Commitment { epoch, root, .. } = *commitment;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(FILE);
    let batches: Vec<Batch> = (0..)
        .zip(openings)
        .map(|(number, &opening)| {
            let promise = (number == 0).then(|| promise.clone());
            Batch { epoch, root, number, opening, promise }
        })
        .collect();
    let (begin, end) = batches.split_at(1);
    assert!(TransitFile::open(&path).expect("opened").keep(begin).expect("written"));
    let file = TransitFile::open(&path).expect("opened again");
    assert_eq!(file.proofs(epoch).expect("readable"), [(promise.clone(), openings[..1].to_vec())]);
    assert!(file.keep(end).expect("written"));
    assert_eq!(file.proofs(epoch).expect("readable"), [(promise.clone(), openings.clone())]);
    assert_eq!(file.batches(epoch, &root).expect("readable"), openings.len());
    assert_eq!(file.batches(epoch.next(), &root).expect("readable"), 0);
    assert_eq!(file.proofs(epoch.next()).expect("readable"), []);
    file.forget_before(epoch).expect("written");
    assert_eq!(file.batches(epoch, &root).expect("readable"), openings.len(), "still of use");
    file.forget_before(epoch.next()).expect("written");
    assert_eq!(file.counts().expect("readable"), (0, 0));
    assert_eq!(file.proofs(epoch).expect("readable"), []);
}

/// A relay that lost a proof on the way keeps none behind it, and who opens circuits to make it remember pushes
/// out circuits that carried nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_remembers_is_in_order_and_bounded() {
    let (mut nodes, mut relays) = network().await;
    let mut circuits = Vec::new();
    for _ in 0..3 {
        circuits.push(carried(&mut nodes, &mut relays, 300_000).await.swap_remove(0));
    }
    let [first, second, third] = &circuits[..] else { panic!("three") };
    let promised = |going: &mut Going, (_, (promise, _), id): &Carried| going.promised(*id, promise.clone());
    let batch = |going: &mut Going, (_, (_, openings), id): &Carried, number: usize| {
        going.carried(*id, openings[number]).map(|batch| (batch.number, batch.promise.is_some()))
    };
    let two = 2 * usize::from(BATCHES);
    let mut going = Going::new(two);
    promised(&mut going, first);
    assert_eq!(batch(&mut going, second, 0), None, "nothing was promised");
    assert_eq!(batch(&mut going, first, 0), Some((0, true)));
    assert_eq!(batch(&mut going, first, 1), Some((1, false)));
    promised(&mut going, second);
    promised(&mut going, third);
    assert_eq!(batch(&mut going, second, 0), None, "pushed out: it had carried nothing");
    assert_eq!(batch(&mut going, third, 1), None, "the first one was lost");
    assert_eq!(batch(&mut going, third, 0), None, "and nothing behind it counts");
    promised(&mut going, second);
    assert_eq!(batch(&mut going, second, 0), Some((0, true)));
    promised(&mut going, third);
    assert_eq!(batch(&mut going, third, 0), None, "the newcomer goes first");
    assert_eq!(batch(&mut going, second, 1), Some((1, false)));
    let epoch = second.0.epoch;
    going.advance(epoch.next());
    assert!(going.carried(second.2, second.1.1[0]).is_none(), "in its grace, and out of order");
    promised(&mut going, third);
    going.advance(epoch.next().next());
    assert_eq!(batch(&mut going, third, 0), None, "its epoch is long over");
}

#[test]
fn nothing_is_opened_for_a_node_that_never_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let off = Circuits::default();
    assert!(Transit::open(dir.path(), &off).expect("nothing to open").is_none());
    assert!(!dir.path().join(FILE).exists());
    let on = Circuits { transit_batches: 1, ..off };
    drop(Transit::open(dir.path(), &on).expect("opened").expect("asked for"));
    assert!(Transit::open(dir.path(), &off).expect("opened").is_some(), "debts outlive the setting");
}
