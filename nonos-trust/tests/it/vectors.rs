use nonos_identity::{Epoch, wire};
use nonos_trust::testing::{attestation, node};
use nonos_trust::{Config, Evidence, TrustEngine, domains};

use crate::{DAY, now};

/// Formats, and scores to the last bit, are pinned: machines must agree on them.
#[test]
fn forms_and_scores_are_pinned() {
    let signed = attestation(1, 2, Epoch::from_number(3_000_000), 4, (5, 6));
    assert_eq!(wire::to_bytes(signed.attestation()).len(), 111);
    assert_eq!(
        signed.envelope().id(domains::ATTESTATION_ID).to_string(),
        "e3d3a213c7c3082f01f50e76bab9108190563387935e768cbeb6040f09755408"
    );
    let mut engine = TrustEngine::new(Config::default(), node(0)).expect("sound");
    for (day, evidence) in (0..).zip(Evidence::ALL) {
        engine.observe(node(1), evidence, now().saturating_add(day * DAY));
    }
    let _ = engine.merge(signed, Epoch::from_number(3_000_000).start());
    let score = engine.score(&node(1), now().saturating_add(20 * DAY));
    assert_eq!(
        format!("{:x} {:x} {}", score.value.to_bits(), score.uncertainty.to_bits(), score.state),
        "5d2dad3 ca69b0d probation"
    );
    assert_eq!(
        engine.digest().to_string(),
        "5bec82776aad7c3cc28447c72c16b497256de031d635f56fd7ce9514e2ae1b95"
    );
}
