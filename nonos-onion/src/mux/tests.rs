use super::*;

const STEP: u32 = Limits::SENDME_STEP_CELLS;

fn limits() -> Limits {
    Limits {
        circuit_window_cells: 4 * STEP,
        stream_window_cells: 2 * STEP,
        streams_per_circuit: 3,
        ..Limits::default()
    }
}

fn message(kind: Kind, stream: u16, data: &[u8]) -> Message<'_> {
    Message { stream, kind, more: false, data }
}

/// A mux with stream 1 open towards the other end.
fn open() -> Mux {
    let mut mux = Mux::new(&limits());
    assert_eq!(mux.begin(), Some(1));
    assert_eq!(mux.sendable_cells(1), 0);
    let (change, _) = mux.receive(message(Kind::Connected, 1, &[]), [0; 16], false).unwrap();
    assert_eq!(change, Some(Change::Opened { stream: 1 }));
    mux
}

#[test]
fn only_the_echoed_tag_opens_the_window() {
    let mut mux = open();
    for i in 0..2 * STEP {
        mux.sent(1, [u8::try_from(i).unwrap(); 16]);
    }
    assert_eq!((mux.credit, mux.sendable_cells(1)), (2 * STEP, 0));
    let last = u8::try_from(STEP - 1).unwrap();
    assert_eq!(mux.on_sendme(0, &[last; 16]), Ok(()));
    assert_eq!(mux.credit, 3 * STEP);
    assert_eq!(mux.on_sendme(0, &[last; 16]), Err(DestroyReason::Protocol), "the first tag again");
    let mut mux = open();
    assert_eq!(mux.on_sendme(0, &[0; 16]), Err(DestroyReason::Protocol), "nothing was sent");
    (0..STEP).for_each(|_| mux.sent(1, [7; 16]));
    assert_eq!(mux.on_sendme(0, &[8; 16]), Err(DestroyReason::Protocol), "a forged tag");
    let mut mux = open();
    (0..STEP).for_each(|_| mux.sent(1, [7; 16]));
    assert_eq!(mux.on_sendme(0, &[7; 15]), Err(DestroyReason::Protocol), "a short tag");
}

#[test]
fn stream_credit_never_exceeds_its_window() {
    let mut mux = open();
    assert_eq!(mux.on_sendme(1, &[]), Err(DestroyReason::Protocol));
    let mut mux = open();
    (0..2 * STEP).for_each(|_| mux.sent(1, [7; 16]));
    let mut writable = Vec::new();
    assert_eq!(mux.sendable_cells(1), 0);
    mux.take_writable(&mut writable);
    assert!(writable.is_empty());
    assert_eq!(mux.on_sendme(1, &[]), Ok(()));
    mux.take_writable(&mut writable);
    assert_eq!((writable, mux.sendable_cells(1)), (vec![1], STEP));
}

#[test]
fn a_sender_beyond_its_windows_is_a_protocol_violation() {
    let mut mux = open();
    for _ in 0..2 * STEP {
        mux.receive(message(Kind::Data, 1, b"x"), [0; 16], false).unwrap();
    }
    let over = mux.receive(message(Kind::Data, 1, b"x"), [0; 16], false);
    assert_eq!(over, Err(DestroyReason::Protocol));
    assert_eq!(mux.streams[&1].received.len(), 2 * STEP as usize);
}

#[test]
fn acknowledgements_follow_receipt_and_credit_follows_reading() {
    let mut mux = open();
    let mut acks = 0;
    for i in 0..2 * STEP {
        let (_, answer) = mux.receive(message(Kind::Data, 1, b"xyz"), [9; 16], false).unwrap();
        acks += u32::from(answer.is_some());
        assert_eq!(answer.is_some(), (i + 1) % STEP == 0);
    }
    assert_eq!(acks, 2);
    let mut out = Vec::new();
    assert_eq!(mux.read(1, 3 * STEP as usize - 1, &mut out), Read { sendmes: 0, more: true, end: false });
    assert_eq!(mux.read(1, 1, &mut out), Read { sendmes: 1, more: true, end: false });
    assert_eq!(mux.read(1, usize::MAX, &mut out), Read { sendmes: 1, more: false, end: false });
    assert_eq!(out.len(), 6 * STEP as usize);
}

#[test]
fn halves_end_alone_and_the_stream_goes_with_both() {
    let mut mux = open();
    mux.receive(message(Kind::Data, 1, b"last"), [0; 16], false).unwrap();
    mux.receive(message(Kind::End, 1, &[1]), [0; 16], false).unwrap();
    assert!(mux.receive(message(Kind::End, 1, &[1]), [0; 16], false).is_err(), "an end has no sequel");
    assert_eq!(mux.sendable_cells(1), 2 * STEP);
    assert!(mux.finish(1) && !mux.finish(1));
    let mut out = Vec::new();
    assert_eq!(mux.read(1, 100, &mut out), Read { sendmes: 0, more: false, end: true });
    assert_eq!((out.as_slice(), mux.is_empty()), (&b"last"[..], true));
}

#[test]
fn streams_are_capped_and_ports_are_two_bytes() {
    let mut mux = Mux::new(&limits());
    for id in 1..=3 {
        let (change, _) = mux.receive(message(Kind::Begin, id, &[0, 80]), [0; 16], true).unwrap();
        assert_eq!(change, Some(Change::Offered { stream: id, port: 80 }));
    }
    let (change, answer) = mux.receive(message(Kind::Begin, 4, &[0, 80]), [0; 16], true).unwrap();
    assert_eq!(change, None);
    assert_eq!(answer, Some(Answer::End { stream: 4, reason: EndReason::Refused }));
    assert_eq!(mux.begin(), None);
    for (id, data, may) in [(1, &[0, 80][..], true), (9, &[80], true), (9, &[0, 80], false)] {
        let result = mux.receive(message(Kind::Begin, id, data), [0; 16], may);
        assert_eq!(result, Err(DestroyReason::Protocol));
    }
}

#[test]
fn waiting_streams_take_turns() {
    let mut mux = open();
    assert_eq!(mux.begin(), Some(2));
    mux.receive(message(Kind::Connected, 2, &[]), [0; 16], false).unwrap();
    (0..2 * STEP).for_each(|_| mux.sent(1, [7; 16]));
    (0..2 * STEP).for_each(|_| mux.sent(2, [7; 16]));
    assert_eq!((mux.sendable_cells(2), mux.sendable_cells(1), mux.sendable_cells(2)), (0, 0, 0));
    mux.on_sendme(0, &[7; 16]).unwrap();
    mux.on_sendme(1, &[]).unwrap();
    mux.on_sendme(2, &[]).unwrap();
    let mut writable = Vec::new();
    mux.take_writable(&mut writable);
    assert_eq!(writable, [2, 1]);
}
