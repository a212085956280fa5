use nonos_identity::Epoch;
use nonos_trust::testing::{
    TestJudge, attestation, false_run, fuzz_attestation, fuzz_fault, fuzz_snapshot, node,
};
use nonos_trust::{Config, Evidence, Fault, TrustEngine};
use proptest::prelude::*;

use crate::now;

fn snapshot() -> Vec<u8> {
    let mut engine = TrustEngine::new(Config::default(), node(0)).expect("sound");
    for peer in 1..4 {
        engine.observe(node(peer), Evidence::ProofAccepted, now());
        engine.observe(node(peer), Evidence::BadNonce, now());
        let _ = engine.merge(attestation(peer, 9, Epoch::at(now()), 1, (1, 1)), now());
    }
    let _ = engine.merge(attestation(1, 9, Epoch::at(now()), 1, (2, 1)), now());
    engine.snapshot()
}

proptest! {
    #[test]
    fn decoders_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_attestation(&bytes);
        fuzz_fault(&bytes);
        fuzz_snapshot(&bytes);
    }

    #[test]
    fn decoders_survive_mutation(at in any::<prop::sample::Index>(), to: u8, cut in any::<prop::sample::Index>()) {
        let (a, b) = (attestation(1, 2, Epoch::at(now()), 1, (1, 0)), attestation(1, 2, Epoch::at(now()), 1, (2, 0)));
        let signed = a.envelope().as_bytes().to_vec();
        let fault = Fault::equivocation(a, b).expect("they contradict").to_bytes();
        let run = Fault::false_run(false_run(1, 1), &TestJudge).expect("false").to_bytes();
        let targets = [
            (signed, fuzz_attestation as fn(&[u8])),
            (fault, fuzz_fault),
            (run, fuzz_fault),
            (snapshot(), fuzz_snapshot),
        ];
        for (mut bytes, fuzz) in targets {
            let (at, cut) = (at.index(bytes.len()), cut.index(bytes.len()));
            fuzz(&bytes[..cut]);
            bytes[at] = to;
            fuzz(&bytes);
        }
    }
}
