//! Proofs of transit over the async driver, from the client's promise to the payer's check.

use nonos_identity::{Epoch, NetworkId, SigningKey};
use nonos_onion::Config;
use nonos_onion::link::Transit;
use nonos_onion::testing::Network;
use nonos_onion::transit::Tally;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::circuits::{echo, path, pattern};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_proves_to_a_payer_what_it_carried() {
    let network = Network::new();
    let mut nodes = Vec::new();
    for number in 0..4 {
        let prove = |config: &mut Config| {
            let limits = &mut config.limits;
            // The client promises, the relays keep.
            if number == 0 { limits.transit_batches = 16 } else { limits.transit_batches_kept = 16 }
        };
        nodes.push(network.add(number, prove).await);
    }
    let mut transits = nodes[1].onion.transits().await;
    let circuit = nodes[0].onion.build(path(&nodes)).await.unwrap();
    let commitments = circuit.commitments().await;
    assert_eq!(commitments.len(), 2);
    echo(nodes.pop().unwrap());
    let mut stream = circuit.open(1).await.unwrap();
    let bytes = pattern(300_000, 1);
    let mut back = vec![0; bytes.len()];
    stream.write_all(&bytes).await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert!(back == bytes);

    let mut tally = Tally::new(Epoch::at(network.now()));
    while tally.batches() < 2 {
        match transits.recv().await.unwrap() {
            Transit::Promised { circuit, promise } => tally.promised(circuit, promise).unwrap(),
            Transit::Carried { circuit, opening } => tally.carried(circuit, opening).unwrap(),
            _ => unreachable!("there are two"),
        }
    }
    let name = NetworkId::from_name("any");
    let (receipt, shares) = tally.settle(&SigningKey::from_seed(&[9; 32]), &name);
    let [(_, commitment, share)] = &shares[..] else { panic!("one circuit") };
    assert_eq!(*commitment, commitments[0]);
    assert_eq!(share.check(receipt.receipt(), &commitments[0]), Ok(()));
    assert!(share.check(receipt.receipt(), &commitments[1]).is_err());
}
