use nonos_identity::wire;
use nonos_identity::{NetworkId, Timestamp};

use crate::beacon::Beacon;
use crate::contact::{export_contacts, import_contacts};
use crate::fetch::{Bitmap, Request, Response};
use crate::frame::{FrameDecoder, encode_frame};
use crate::message::Message;
use crate::ticket::Ticket;

const LIMIT_BYTES: usize = 4096;

/// The frame decoder: never panics, never holds more than it was given, and what it accepts
/// encodes to the bytes it came from.
///
/// # Panics
/// If one of these does not hold.
pub fn fuzz_frames(bytes: &[u8]) {
    let mut decoder = FrameDecoder::new(LIMIT_BYTES);
    let mut again = Vec::new();
    for part in bytes.chunks(7) {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => again.extend(encode_frame(&frame, LIMIT_BYTES).expect("within the limit")),
                Ok(None) => break,
                Err(_) => {
                    assert!(decoder.next_frame().is_err(), "an error is final");
                    return;
                }
            }
        }
    }
    assert!(bytes.starts_with(&again));
}

/// The messages of a link.
///
/// # Panics
/// If an accepted message encodes to other bytes.
pub fn fuzz_message(bytes: &[u8]) {
    if let Ok(message) = wire::from_bytes::<Message>(bytes) {
        message.is_within_limits();
        assert_eq!(wire::to_bytes(&message), bytes);
    }
}

/// Beacons, at any time.
pub fn fuzz_beacon(bytes: &[u8]) {
    let network = NetworkId::from_name("fuzz");
    for now in [0, 1_700_000_000, u64::MAX] {
        let _ = Beacon::check(bytes, &network, Timestamp::from_secs(now));
    }
}

/// Tickets.
///
/// # Panics
/// If an accepted ticket has another text form.
pub fn fuzz_ticket(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_string(), text.trim());
    }
}

/// Contact files.
///
/// # Panics
/// If an accepted list does not survive another round.
pub fn fuzz_contacts(bytes: &[u8]) {
    let network = NetworkId::from_bytes([0; 32]);
    if let Ok(contacts) = import_contacts(&network, bytes) {
        assert_eq!(import_contacts(&network, &export_contacts(&network, &contacts)), Ok(contacts));
    }
}

/// Requests, responses and chunk maps.
///
/// # Panics
/// If an accepted value encodes to other bytes.
pub fn fuzz_fetch(bytes: &[u8]) {
    if let Ok(request) = wire::from_bytes::<Request>(bytes) {
        assert_eq!(wire::to_bytes(&request), bytes);
    }
    if let Ok(response) = wire::from_bytes::<Response>(bytes) {
        assert_eq!(wire::to_bytes(&response), bytes);
    }
    for len in [0, 1, 8, 100] {
        if let Some(map) = Bitmap::from_bytes(len, bytes) {
            assert!(map.count() <= len);
            assert_eq!(map.as_bytes(), bytes);
        }
    }
}
