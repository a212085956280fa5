use super::*;

const NOW: Duration = Duration::from_secs(7);
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
    assert_eq!(mux.sendable_cells(1), 2 * STEP, "an answer is not waited for");
    let (change, _) = mux.receive(message(Kind::Connected, 1, &[]), [0; 16], false, NOW).unwrap();
    assert_eq!(change, Some(Change::Opened { stream: 1 }));
    mux
}

fn sent(mux: &mut Mux, stream: u16, cells: u32) {
    (0..cells).for_each(|_| mux.sent(stream, [7; 16], NOW));
}

#[test]
fn only_the_echoed_tag_opens_the_window() {
    let later = NOW + Duration::from_millis(80);
    let mut mux = open();
    for i in 0..2 * STEP {
        mux.sent(1, [u8::try_from(i).unwrap(); 16], NOW);
    }
    assert_eq!((mux.congestion.credit(), mux.sendable_cells(1)), (2 * STEP, 0));
    let last = u8::try_from(STEP - 1).unwrap();
    assert_eq!(mux.on_sendme(0, &[last; 16], later), Ok(()));
    assert_eq!(mux.congestion.credit(), 3 * STEP);
    let again = mux.on_sendme(0, &[last; 16], later);
    assert_eq!(again, Err(DestroyReason::Protocol), "the first tag again");
    for (sent_cells, echo, fault) in [
        (0, &[0; 16][..], "nothing was sent"),
        (STEP, &[8; 16], "a forged tag"),
        (STEP, &[7; 15], "a short tag"),
    ] {
        let mut mux = open();
        sent(&mut mux, 1, sent_cells);
        assert_eq!(mux.on_sendme(0, echo, later), Err(DestroyReason::Protocol), "{fault}");
    }
}

#[test]
fn stream_credit_is_what_was_granted() {
    for (data, fault) in [
        (&[][..], "no number"),
        (&[0, 0], "nothing"),
        (&[1], "half a number"),
        (&[0x40, 0], "beyond all windows"),
    ] {
        assert_eq!(open().on_sendme(1, data, NOW), Err(DestroyReason::Protocol), "{fault}");
    }
    let mut mux = open();
    sent(&mut mux, 1, 2 * STEP);
    let mut writable = Vec::new();
    assert_eq!(mux.sendable_cells(1), 0);
    mux.take_writable(&mut writable);
    assert!(writable.is_empty());
    assert_eq!(mux.on_sendme(1, &[0, 40], NOW), Ok(()));
    mux.take_writable(&mut writable);
    assert_eq!((writable, mux.sendable_cells(1)), (vec![1], 40));
}

/// A stream that was given `cells`, and what the reads of them granted in all.
fn read_all(mux: &mut Mux, cells: u32, keeps_up: bool) -> u32 {
    let mut granted = 0;
    for _ in 0..cells {
        mux.receive(message(Kind::Data, 1, b"x"), [0; 16], false, NOW).unwrap();
        // One that does not keep up always leaves a byte.
        let left = usize::from(!keeps_up);
        let unread = mux.buffered();
        granted += u32::from(mux.read(1, unread - left, &mut Vec::new()).grant);
    }
    granted
}

#[test]
fn the_window_of_a_stream_grows_with_a_reader_that_keeps_up() {
    let limits = Limits { stream_window_max_cells: 17 * STEP, ..limits() };
    let open = || {
        let mut mux = Mux::new(&limits);
        mux.begin();
        mux.receive(message(Kind::Connected, 1, &[]), [0; 16], false, NOW).unwrap();
        mux
    };
    let mut mux = open();
    assert_eq!(read_all(&mut mux, 2 * STEP, true), 8 * STEP, "four times what was read");
    assert_eq!(read_all(&mut mux, 8 * STEP, true), 16 * STEP, "twice what was read");
    assert_eq!(read_all(&mut mux, 16 * STEP, true), 17 * STEP, "not beyond the largest");
    assert_eq!(read_all(&mut mux, 17 * STEP, true), 17 * STEP);
    assert_eq!(mux.streams[&1].allowance, 17 * STEP);
    let mut slow = open();
    assert_eq!(read_all(&mut slow, 2 * STEP, false), STEP, "no more than was read, a step at a time");
}

/// A burst that is larger than the buffer of whoever reads is no sign of a slow reader.
#[test]
fn a_reader_in_pieces_keeps_up_and_no_window_leaps() {
    let mut mux = open();
    let burst = |mux: &mut Mux, cells: u32, piece: usize| {
        for _ in 0..cells {
            mux.receive(message(Kind::Data, 1, b"x"), [0; 16], false, NOW).unwrap();
        }
        let mut granted = 0;
        while mux.buffered() > 0 {
            granted += u32::from(mux.read(1, piece, &mut Vec::new()).grant);
        }
        granted
    };
    assert_eq!(burst(&mut mux, 2 * STEP, STEP as usize / 2), 8 * STEP);
    assert_eq!(mux.streams[&1].window, 8 * STEP);
    // One that was behind for long has not read that much at once.
    mux.streams.get_mut(&1).unwrap().behind = 100 * STEP;
    assert_eq!(burst(&mut mux, STEP, usize::MAX), STEP + 8 * STEP);
}

#[test]
fn what_is_not_read_is_counted() {
    let mut mux = open();
    for _ in 0..5 {
        mux.receive(message(Kind::Data, 1, b"xyz"), [0; 16], false, NOW).unwrap();
    }
    assert_eq!(mux.buffered(), 15);
    mux.read(1, 4, &mut Vec::new());
    assert_eq!(mux.buffered(), 11);
    mux.reset(1);
    assert_eq!(mux.buffered(), 0);
}

#[test]
fn a_sender_beyond_its_windows_is_a_protocol_violation() {
    let mut mux = open();
    for _ in 0..2 * STEP {
        mux.receive(message(Kind::Data, 1, b"x"), [0; 16], false, NOW).unwrap();
    }
    let over = mux.receive(message(Kind::Data, 1, b"x"), [0; 16], false, NOW);
    assert_eq!(over, Err(DestroyReason::Protocol));
    assert_eq!(mux.streams[&1].received.len(), 2 * STEP as usize);
}

#[test]
fn acknowledgements_follow_receipt_and_credit_follows_reading() {
    let mut mux = open();
    let mut acks = 0;
    for i in 0..2 * STEP {
        let (_, answer) = mux.receive(message(Kind::Data, 1, b"xyz"), [9; 16], false, NOW).unwrap();
        acks += u32::from(answer.is_some());
        assert_eq!(answer.is_some(), (i + 1) % STEP == 0);
    }
    assert_eq!(acks, 2);
    let mut out = Vec::new();
    let step = u16::try_from(STEP).unwrap();
    assert_eq!(mux.read(1, 3 * STEP as usize - 1, &mut out), Read { grant: 0, more: true, end: false });
    assert_eq!(mux.read(1, 1, &mut out), Read { grant: step, more: true, end: false });
    // The rest, and three times as many as all of them: the reader has caught up.
    assert_eq!(mux.read(1, usize::MAX, &mut out), Read { grant: 7 * step, more: false, end: false });
    assert_eq!(out.len(), 6 * STEP as usize);
}

#[test]
fn halves_end_alone_and_the_stream_goes_with_both() {
    let mut mux = open();
    mux.receive(message(Kind::Data, 1, b"last"), [0; 16], false, NOW).unwrap();
    mux.receive(message(Kind::End, 1, &[1]), [0; 16], false, NOW).unwrap();
    assert!(mux.receive(message(Kind::End, 1, &[1]), [0; 16], false, NOW).is_err(), "an end has no sequel");
    assert_eq!(mux.sendable_cells(1), 2 * STEP);
    assert!(mux.finish(1) && !mux.finish(1));
    let mut out = Vec::new();
    assert_eq!(mux.read(1, 100, &mut out), Read { grant: 0, more: false, end: true });
    assert_eq!((out.as_slice(), mux.is_empty()), (&b"last"[..], true));
}

#[test]
fn streams_are_capped_and_ports_are_two_bytes() {
    let mut mux = Mux::new(&limits());
    for id in 1..=3 {
        let (change, _) = mux.receive(message(Kind::Begin, id, &[0, 80]), [0; 16], true, NOW).unwrap();
        assert_eq!(change, Some(Change::Offered { stream: id, port: 80 }));
    }
    let (change, answer) = mux.receive(message(Kind::Begin, 4, &[0, 80]), [0; 16], true, NOW).unwrap();
    assert_eq!(change, None);
    assert_eq!(answer, Some(Answer::End { stream: 4, reason: EndReason::Refused }));
    assert_eq!(mux.begin(), None);
    for (id, data, may) in [(1, &[0, 80][..], true), (9, &[80], true), (9, &[0, 80], false)] {
        let result = mux.receive(message(Kind::Begin, id, data), [0; 16], may, NOW);
        assert_eq!(result, Err(DestroyReason::Protocol));
    }
}

#[test]
fn waiting_streams_take_turns() {
    let mut mux = open();
    assert_eq!(mux.begin(), Some(2));
    mux.receive(message(Kind::Connected, 2, &[]), [0; 16], false, NOW).unwrap();
    sent(&mut mux, 1, 2 * STEP);
    sent(&mut mux, 2, 2 * STEP);
    assert_eq!((mux.sendable_cells(2), mux.sendable_cells(1), mux.sendable_cells(2)), (0, 0, 0));
    mux.on_sendme(0, &[7; 16], NOW).unwrap();
    mux.on_sendme(1, &[0, 32], NOW).unwrap();
    mux.on_sendme(2, &[0, 32], NOW).unwrap();
    let mut writable = Vec::new();
    mux.take_writable(&mut writable);
    assert_eq!(writable, [2, 1]);
}

#[test]
fn an_offered_stream_sends_nothing_before_it_is_accepted() {
    let mut mux = Mux::new(&limits());
    mux.receive(message(Kind::Begin, 7, &[0, 80]), [0; 16], true, NOW).unwrap();
    assert_eq!(mux.sendable_cells(7), 0);
    assert!(mux.accept(7));
    assert_eq!(mux.sendable_cells(7), 2 * STEP);
}

#[test]
fn the_rest_is_of_streams_that_have_ended() {
    let mut mux = Mux::new(&limits());
    for stream in [1, 2, 3] {
        mux.receive(message(Kind::Begin, stream, &[0, 80]), [0; 16], true, NOW).unwrap();
        assert!(mux.accept(stream));
        mux.receive(message(Kind::Data, stream, b"data"), [0; 16], true, NOW).unwrap();
    }
    for stream in [1, 2] {
        mux.receive(message(Kind::End, stream, &[1]), [0; 16], true, NOW).unwrap();
    }
    assert!(mux.read(2, 100, &mut Vec::new()).end);
    mux.keep_ended();
    assert_eq!(mux.streams().collect::<Vec<_>>(), [1]);
    assert_eq!((mux.buffered(), mux.sendable_cells(1)), (4, 0));
    let mut rest = Vec::new();
    assert!(mux.read(1, 100, &mut rest).end && rest == b"data" && mux.is_empty());
}
