//! What a thousand receipts of ten nodes tell about who ran, to whoever has no blind.

#![expect(clippy::indexing_slicing, reason = "statistics over tables of a fixed size")]

use std::sync::LazyLock;

use nonos_identity::testing::MemorySlotLog;
use nonos_identity::wire;
use nonos_identity::{
    Certificate, Domain, Epoch, ExecutionSlots, Identity, NetworkId, OnionAddress, OnionNetwork, Opening,
    OpeningError, PublicRun, Role, RunIdentity,
};

const D: Domain = Domain::new("nonos/identity/test/v1");
const EPOCH: Epoch = Epoch::from_number(2_963_000);
const NODES: usize = 10;
const RUNS: usize = 100;

/// The public identity part of one receipt, who made it, and what opens it.
struct Receipt {
    node: usize,
    shown: PublicRun,
    /// The public run and the signature of the execution key.
    bytes: Vec<u8>,
    opening: Opening,
}

fn net() -> NetworkId {
    NetworkId::from_name("test")
}

static RECEIPTS: LazyLock<Vec<Receipt>> = LazyLock::new(|| {
    let mut receipts = Vec::new();
    for node in 0..NODES {
        let identity = Identity::from_seed(&[u8::try_from(node).expect("small") + 1; 64]);
        let signer = identity.signing_key(Role::EpochSigner, 0);
        let root = identity.root_key();
        let certificate = Certificate::issue(
            &root,
            &signer,
            Role::EpochSigner,
            7,
            EPOCH.start(),
            Certificate::MAX_LIFETIME,
            &net(),
        )
        .expect("in the rules");
        let mut slots = ExecutionSlots::new(identity.roles(), identity.node_id(), EPOCH);
        let head = slots.sign_head(&signer, &certificate, None, &net()).expect("in the rules");
        let onion = identity.signing_key(Role::Onion, 0).public();
        let onion = OnionAddress::new(OnionNetwork::Mesh, onion);
        let peer = identity.transport_key(&net()).public();
        let log = MemorySlotLog::default();
        for at in 0..RUNS {
            let slot = slots.take(&log).expect("enough slots");
            let run = slot.identity(onion, peer);
            let shown = run.public(slot.key().public());
            // Two nodes run the same job, so that the message tells nothing either.
            let signature = slot.key().sign(D, &net(), &at.to_le_bytes());
            let bytes = [&wire::to_bytes(&shown)[..], signature.as_bytes()].concat();
            let opening = slot.opening(run, head.clone(), certificate.clone());
            receipts.push(Receipt { node, shown, bytes, opening });
        }
    }
    receipts
});

fn nibbles(bytes: &[u8]) -> Vec<usize> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(usize::from).collect()
}

/// How often of each class and at each position each of sixteen values occurs.
fn table(samples: &[(usize, Vec<usize>)]) -> Vec<Vec<[f64; 16]>> {
    let width = samples[0].1.len();
    let mut table = vec![vec![[0.0; 16]; width]; NODES];
    for (class, values) in samples {
        for (at, value) in values.iter().enumerate() {
            table[*class][at][*value] += 1.0;
        }
    }
    table
}

/// Share of the samples that a naive Bayes classifier, trained on all the others, puts into their class.
fn leave_one_out(samples: &[(usize, Vec<usize>)]) -> f64 {
    let table = table(samples);
    let mut sizes = [0.0; NODES];
    samples.iter().for_each(|(class, _)| sizes[*class] += 1.0);
    let right = samples.iter().filter(|(own, values)| {
        let score = |class: usize| -> f64 {
            let less = if class == *own { 1.0 } else { 0.0 };
            let terms = values.iter().enumerate().map(|(at, value)| {
                ((table[class][at][*value] - less + 1.0) / (sizes[class] - less + 16.0)).ln()
            });
            terms.sum()
        };
        (0..NODES).max_by(|a, b| score(*a).total_cmp(&score(*b))) == Some(*own)
    });
    right.count() as f64 / samples.len() as f64
}

/// The largest chi-square statistic of any position: classes by values, 135 degrees of freedom.
fn worst_chi_square(samples: &[(usize, Vec<usize>)]) -> f64 {
    let table = table(samples);
    let total = samples.len() as f64;
    let statistic = |at: usize| -> f64 {
        let column = |value: usize| table.iter().map(|class| class[at][value]).sum::<f64>();
        let row = |class: usize| table[class][at].iter().sum::<f64>();
        let cells = (0..NODES).flat_map(|class| (0..16).map(move |value| (class, value)));
        let terms = cells.filter(|(_, value)| column(*value) > 0.0).map(|(class, value)| {
            let expected = row(class) * column(value) / total;
            (table[class][at][value] - expected).powi(2) / expected
        });
        terms.sum()
    };
    (0..samples[0].1.len()).map(statistic).fold(0.0, f64::max)
}

/// One in ten by guessing; four standard deviations are 3.8 %.
const GUESSING: f64 = 0.138;
/// Exceeded once in a million by chance, over all positions together.
const CHI_SQUARE: f64 = 260.0;

#[test]
fn receipts_do_not_tell_nodes_apart() {
    let receipts = &*RECEIPTS;
    let length = receipts[0].bytes.len();
    assert!(receipts.iter().all(|receipt| receipt.bytes.len() == length));

    let by_node: Vec<_> = receipts.iter().map(|it| (it.node, nibbles(&it.bytes))).collect();
    let (share, chi) = (leave_one_out(&by_node), worst_chi_square(&by_node));
    println!("nodes: {:.1} % recognised, chi-square at most {chi:.0}", share * 100.0);
    assert!(share < GUESSING && chi < CHI_SQUARE, "{share} {chi}");

    let by_slot: Vec<_> =
        receipts.iter().map(|it| (it.opening.run.slot as usize * NODES / 1024, nibbles(&it.bytes))).collect();
    let (share, chi) = (leave_one_out(&by_slot), worst_chi_square(&by_slot));
    println!("slots: {:.1} % recognised, chi-square at most {chi:.0}", share * 100.0);
    assert!(share < GUESSING && chi < CHI_SQUARE, "{share} {chi}");
}

/// The same search finds a leak of four bits in every third receipt.
#[test]
fn a_leak_would_be_seen() {
    let mut samples: Vec<_> = RECEIPTS.iter().map(|it| (it.node, nibbles(&it.bytes))).collect();
    for (class, values) in samples.iter_mut().step_by(3) {
        values[70] = *class;
    }
    assert!(worst_chi_square(&samples) > CHI_SQUARE);
    let mut samples: Vec<_> = RECEIPTS.iter().map(|it| (it.node, nibbles(&it.bytes))).collect();
    samples.iter_mut().for_each(|(class, values)| values[70] = *class);
    let share = leave_one_out(&samples);
    assert!(share > 2.0 * GUESSING, "{share}");
}

/// Everything about a node is public but the blind.
#[test]
fn nobody_recomputes_a_commitment_without_its_blind() {
    let receipts = &*RECEIPTS;
    let one = &receipts[NODES * RUNS / 2];
    let guess = |blind| {
        (0..1024).any(|slot| {
            let run = RunIdentity { slot, blind, ..one.opening.run.clone() };
            run.commit(&one.shown.exec_key) == one.shown.commitment
        })
    };
    assert!(guess(one.opening.run.blind), "the search would find it");
    assert!(!guess([0; 32]) && !guess(*one.shown.exec_key.as_bytes()));
    let another = &receipts[NODES * RUNS / 2 + 1];
    assert!(!guess(another.opening.run.blind), "the blind of another run is of no use");
}

#[test]
fn every_run_opens_to_its_node_and_no_other_run_does() {
    let receipts = &*RECEIPTS;
    for (at, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.opening.check(&receipt.shown, &net(), None), Ok(()), "{at}");
        let other = &receipts[(at + RUNS + 1) % receipts.len()];
        let refused = receipt.opening.check(&other.shown, &net(), None);
        assert_eq!(refused, Err(OpeningError::Commitment), "{at}");
    }
}
