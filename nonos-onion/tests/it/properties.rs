use nonos_identity::wire;
use nonos_onion::testing::{
    arb_descriptor, arb_pinned, fuzz_cell, fuzz_conflux, fuzz_descriptor, fuzz_guards, fuzz_handshake,
    fuzz_introduction, fuzz_machine, fuzz_message, fuzz_records, fuzz_vanguards, valid_cell, valid_create,
    valid_frames, valid_introduction, valid_introduction_content, valid_message, valid_routing,
};
use nonos_onion::{GuardSet, RelayDescriptor, Vanguards};
use proptest::collection::vec;
use proptest::prelude::*;

/// Changes some bytes of a valid encoding.
fn mutate(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, with) in changes {
        let len = bytes.len();
        bytes[at % len] ^= with;
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    vec((any::<usize>(), any::<u8>()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn descriptors_round_trip(descriptor in arb_descriptor(), changes in changes()) {
        let bytes = wire::to_bytes(&descriptor);
        prop_assert_eq!(wire::from_bytes::<RelayDescriptor>(&bytes), Ok(descriptor));
        fuzz_descriptor(&mutate(bytes, &changes));
    }

    #[test]
    fn pinned_relays_round_trip((mut guards, vanguards) in arb_pinned(), changes in changes()) {
        guards.retry_all();
        let bytes = wire::to_bytes(&guards);
        prop_assert_eq!(wire::from_bytes::<GuardSet>(&bytes), Ok(guards));
        fuzz_guards(&mutate(bytes, &changes));
        let bytes = wire::to_bytes(&vanguards);
        prop_assert_eq!(wire::from_bytes::<Vanguards>(&bytes), Ok(vanguards));
        fuzz_vanguards(&mutate(bytes, &changes));
    }

    #[test]
    fn cells_are_canonical(content in vec(any::<u8>(), 0..1100), changes in changes()) {
        fuzz_cell(&valid_cell(&content));
        fuzz_cell(&mutate(valid_cell(&content), &changes));
        fuzz_cell(&content);
    }

    #[test]
    fn messages_are_canonical(content in vec(any::<u8>(), 0..1100), changes in changes()) {
        fuzz_message(&valid_message(&content));
        fuzz_message(&mutate(valid_message(&content), &changes));
        fuzz_message(&content);
    }

    #[test]
    fn frames_of_legs_are_canonical(content in vec(any::<u8>(), 0..9000), changes in changes()) {
        let frames = valid_frames(&content);
        fuzz_conflux(&frames);
        fuzz_conflux(&mutate(frames, &changes));
        fuzz_conflux(&content);
    }

    #[test]
    fn messages_of_hubs_are_canonical(seed: [u8; 32], bytes in vec(any::<u8>(), 0..1600), changes in changes()) {
        fuzz_introduction(&bytes);
        for valid in [valid_introduction(&seed), valid_introduction_content(&seed)] {
            fuzz_introduction(&valid);
            fuzz_introduction(&mutate(valid, &changes));
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_record(bytes in vec(any::<u8>(), 0..400)) {
        fuzz_descriptor(&bytes);
        fuzz_guards(&bytes);
        fuzz_vanguards(&bytes);
    }

    #[test]
    fn a_machine_bears_any_cells(bytes in vec(any::<u8>(), 0..2000)) {
        fuzz_machine(&bytes);
    }

    #[test]
    fn a_machine_bears_chosen_commands(commands in vec((1_u8..6, any::<u8>(), 0_u8..4), 1..40)) {
        let mut bytes = Vec::new();
        for (command, id, flags) in commands {
            let mut chunk = [0; 64];
            chunk[..9].copy_from_slice(&[0x80, 0, 0, id % 4 + 1, command, 0, flags, 0, 50]);
            bytes.extend_from_slice(&chunk);
        }
        fuzz_machine(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_bytes_complete_a_handshake(bytes in vec(any::<u8>(), 1000..1400)) {
        fuzz_handshake(&bytes);
    }

    #[test]
    fn records_are_canonical_and_bear_any_bytes(
        content in vec(any::<u8>(), 0..9000),
        changes in changes(),
    ) {
        fuzz_records(&content);
        fuzz_records(&mutate(valid_create(&content), &changes));
        fuzz_records(&mutate(valid_routing(&content), &changes));
    }
}
