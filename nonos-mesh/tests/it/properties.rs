use nonos_identity::NetworkId;
use nonos_identity::wire;
use nonos_mesh::fetch::{Request, Response, Want};
use nonos_mesh::testing::{
    self, fuzz_beacon, fuzz_contacts, fuzz_fetch, fuzz_frames, fuzz_message, fuzz_ticket,
};
use nonos_mesh::{Ticket, encode_frame, export_contacts, import_contacts};
use proptest::collection::vec;
use proptest::prelude::*;

fn mutated(mut bytes: Vec<u8>, at: prop::sample::Index, value: u8) -> Vec<u8> {
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        bytes[at] ^= value;
    }
    bytes
}

proptest! {
    #[test]
    fn decoders_survive_anything(bytes in vec(any::<u8>(), 0..600)) {
        fuzz_frames(&bytes);
        fuzz_message(&bytes);
        fuzz_beacon(&bytes);
        fuzz_ticket(&bytes);
        fuzz_contacts(&bytes);
        fuzz_fetch(&bytes);
    }

    #[test]
    fn tickets_round_trip(ticket in testing::ticket(), at: prop::sample::Index, value: u8) {
        let text = ticket.to_string();
        prop_assert_eq!(text.parse::<Ticket>(), Ok(ticket));
        fuzz_ticket(&mutated(text.into_bytes(), at, value));
    }

    #[test]
    fn contact_files_round_trip(contacts in vec(testing::contact(), 0..5), at: prop::sample::Index, value: u8) {
        let network = NetworkId::from_bytes([0; 32]);
        let file = export_contacts(&network, &contacts);
        prop_assert_eq!(import_contacts(&network, &file), Ok(contacts));
        fuzz_contacts(&mutated(file, at, value));
    }

    #[test]
    fn responses_round_trip(response in testing::response(), at: prop::sample::Index, value: u8) {
        let bytes = wire::to_bytes(&response);
        prop_assert_eq!(wire::from_bytes::<Response>(&bytes), Ok(response));
        fuzz_fetch(&mutated(bytes, at, value));
    }

    #[test]
    fn requests_round_trip(capsule: [u8; 32], index: u32, pay in vec(any::<u8>(), 0..100)) {
        let capsule = [[capsule, capsule].concat()].concat().try_into().expect("64 bytes");
        for want in [Want::Head, Want::Chunk(index), Want::Pay(pay.clone()), Want::Have, Want::Permit(pay)] {
            let request = Request { capsule, want };
            prop_assert_eq!(wire::from_bytes::<Request>(&wire::to_bytes(&request)), Ok(request));
        }
    }

    #[test]
    fn mutated_frames_do_no_harm(frames in vec(vec(any::<u8>(), 0..50), 0..5), at: prop::sample::Index, value: u8) {
        let stream: Vec<u8> = frames.iter().flat_map(|f| encode_frame(f, 4096).expect("short")).collect();
        fuzz_frames(&mutated(stream, at, value));
    }

    #[test]
    fn beacon_bodies_keep_their_limits(mut body in testing::beacon_body()) {
        prop_assert!(body.check().is_ok());
        body.relay = vec![0; 513];
        prop_assert!(body.check().is_err());
    }
}
