use super::*;

/// Tor's body length.
const TOR: usize = 509;
/// Ours.
const OURS: usize = 1018;

const VECTORS: &str = include_str!("../../tests/vectors/tor_cgo.txt");

/// The fields of every answer of a kind.
fn answers(kind: &str) -> Vec<Vec<&'static str>> {
    let of_kind = |line: &&str| line.split(' ').next() == Some(kind);
    let found: Vec<_> =
        VECTORS.lines().filter(of_kind).map(|line| line.split(' ').skip(1).collect::<Vec<_>>()).collect();
    assert!(!found.is_empty(), "no answers of kind {kind}");
    found
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

fn body(tag: &str, payload: &str) -> [u8; TOR] {
    array(&format!("{tag}{payload}"))
}

/// A direction in the state `(K, N, T')`.
fn direction<E: KeyInit<KeySize = polyval::universal_hash::consts::U16>>(
    state: &[&str],
) -> Direction<E, TOR> {
    let mut way = Direction::new(&array(&format!("{}{}", state[0], state[1])));
    *way.tag = array(state[2]);
    way
}

/// Asserts that a direction is in the state `(K, N, T')`; equal keys show as equal output.
fn assert_state(way: &Direction<Aes128Enc, TOR>, state: &[&str]) {
    let expected = direction::<Aes128Enc>(state);
    assert_eq!(*way.nonce, *expected.nonce);
    assert_eq!(*way.tag, *expected.tag);
    let (mut a, mut b) = ([0x5a; TOR], [0x5a; TOR]);
    way.uiv.encrypt(&[1; 16], 2, &mut a);
    expected.uiv.encrypt(&[1; 16], 2, &mut b);
    assert_eq!(a, b);
}

fn assert_client_state(way: &Direction<Aes128Dec, TOR>, state: &[&str]) {
    let expected = direction::<Aes128Dec>(state);
    assert_eq!(*way.nonce, *expected.nonce);
    assert_eq!(*way.tag, *expected.tag);
    let (mut a, mut b) = ([0x5a; TOR], [0x5a; TOR]);
    way.uiv.decrypt(&[1; 16], 2, &mut a);
    expected.uiv.decrypt(&[1; 16], 2, &mut b);
    assert_eq!(a, b);
}

#[test]
fn the_counter_reservation_follows_the_body() {
    assert_eq!((stream_blocks(TOR), counter_bits(TOR)), (31, 6));
    assert_eq!((stream_blocks(OURS), counter_bits(OURS)), (63, 7));
}

#[test]
fn tweakable_cipher_matches_tor() {
    for answer in answers("et") {
        let [encrypt, keys, tweak, input, output] = answer[..] else { panic!("five fields") };
        let keys = array::<64>(&format!("{keys}{}", "00".repeat(32)));
        let tweak = bytes(tweak);
        let (previous, rest) = tweak.split_first_chunk().unwrap();
        let mut block: Tag = array(input);
        let mask = Uiv::<Aes128Enc, TOR>::new(&keys).tweak(previous, rest[0], &rest[1..]);
        xor(&mut block, &mask);
        if encrypt == "1" {
            Aes128Enc::new((&array::<16>(&answer[1][..32])).into()).encrypt_block((&mut block).into());
        } else {
            Aes128Dec::new((&array::<16>(&answer[1][..32])).into()).decrypt_block((&mut block).into());
        }
        xor(&mut block, &mask);
        assert_eq!(block, array(output));
    }
}

#[test]
fn generator_matches_tor() {
    for answer in answers("prf") {
        let [keys, offset, tweak, output] = answer[..] else { panic!("four fields") };
        let uiv = Uiv::<Aes128Enc, TOR>::new(&array(&format!("{}{keys}", "00".repeat(32))));
        let output = bytes(output);
        let mut stream = vec![0; output.len()];
        let skip = if offset == "1" { stream_blocks(TOR) } else { 0 };
        uiv.apply_stream(&array(tweak), skip, &mut stream);
        assert_eq!(stream, output);
    }
}

#[test]
fn wide_block_cipher_matches_tor() {
    for answer in answers("uiv") {
        let [encrypt, keys, tweak, left, right, to_left, to_right] = answer[..] else {
            panic!("seven fields")
        };
        let tweak: [u8; 17] = array(tweak);
        let (previous, command) = (tweak.first_chunk().unwrap(), tweak[16]);
        let mut cell = body(left, right);
        if encrypt == "1" {
            Uiv::<Aes128Enc, TOR>::new(&array(keys)).encrypt(previous, command, &mut cell);
        } else {
            Uiv::<Aes128Dec, TOR>::new(&array(keys)).decrypt(previous, command, &mut cell);
        }
        assert_eq!(cell, body(to_left, to_right));
    }
}

#[test]
fn key_update_matches_tor() {
    let zero = "00".repeat(16);
    for answer in answers("update") {
        let [keys, nonce, to_keys, to_nonce] = answer[..] else { panic!("four fields") };
        let mut way = direction::<Aes128Enc>(&[keys, nonce, &zero]);
        way.uiv.update(&mut way.nonce);
        assert_state(&way, &[to_keys, to_nonce, &zero]);
    }
}

#[test]
fn relay_layer_matches_tor() {
    for answer in answers("relay") {
        let command = array::<1>(answer[4])[0];
        let mut cell = body(answer[5], answer[6]);
        let mut layer =
            RelayLayer::<TOR> { outward: direction(&answer[1..4]), inward: direction(&answer[1..4]) };
        let way = if answer[0] == "1" {
            layer.inward(command, &mut cell);
            &layer.inward
        } else {
            layer.outward(command, &mut cell);
            &layer.outward
        };
        assert_state(way, &answer[7..10]);
        assert_eq!(cell, body(answer[10], answer[11]));
    }
}

#[test]
fn relay_origination_matches_tor() {
    for answer in answers("relay_originate") {
        let mut cell = body(&"ff".repeat(16), answer[4]);
        let mut layer = RelayLayer::<TOR> { outward: direction(&answer), inward: direction(&answer) };
        let tag = layer.originate(array::<1>(answer[3])[0], &mut cell);
        assert_state(&layer.inward, &answer[5..8]);
        assert_eq!(cell, body(answer[8], answer[9]));
        assert_eq!(tag, array(answer[8]));
    }
}

#[test]
fn client_origination_matches_tor() {
    for answer in answers("client_originate") {
        let hop: usize = answer[9].parse().unwrap();
        let command = array::<1>(answer[10])[0];
        let mut layers: Vec<ClientLayer<TOR>> = (0..3)
            .map(|i| ClientLayer {
                outward: direction(&answer[3 * i..]),
                inward: direction(&answer[3 * i..]),
            })
            .collect();
        let mut cell = body(&"ff".repeat(16), answer[11]);
        layers[hop - 1].originate(command, &mut cell);
        for layer in layers[..hop - 1].iter_mut().rev() {
            layer.outward(command, &mut cell);
        }
        assert_eq!(cell, body(answer[21], answer[22]));
        for (i, layer) in layers.iter().enumerate() {
            assert_client_state(&layer.outward, &answer[12 + 3 * i..]);
        }
    }
}

/// Both ends of `hops` layers with different keys.
fn layers(hops: u8) -> (Vec<ClientLayer<OURS>>, Vec<RelayLayer<OURS>>) {
    let seed = |i| [i; LAYER_SEED_BYTES];
    (
        (1..=hops).map(|i| ClientLayer::new(&seed(i))).collect(),
        (1..=hops).map(|i| RelayLayer::new(&seed(i))).collect(),
    )
}

fn outward(client: &mut [ClientLayer<OURS>], cell: &mut [u8; OURS]) -> Tag {
    let (last, rest) = client.split_last_mut().unwrap();
    let tag = last.originate(1, cell);
    rest.iter_mut().rev().for_each(|layer| layer.outward(1, cell));
    tag
}

fn filled(with: u8) -> [u8; OURS] {
    let mut cell = [with; OURS];
    cell[..TAG_BYTES].fill(0);
    cell
}

#[test]
fn three_hops_agree_across_ratchets() {
    let (mut client, mut relays) = layers(3);
    for n in 0..2 * RATCHET_CELLS + 10 {
        #[expect(clippy::cast_possible_truncation, reason = "any byte will do")]
        let mut cell = filled(n as u8);
        let plain = cell[TAG_BYTES..].to_vec();
        let sent = outward(&mut client, &mut cell);
        assert!(relays[0].outward(1, &mut cell).is_none());
        assert!(relays[1].outward(1, &mut cell).is_none());
        assert_eq!(relays[2].outward(1, &mut cell), Some(sent), "cell {n}");
        assert_eq!(cell[TAG_BYTES..], plain);

        let sent = relays[2].originate(1, &mut cell);
        relays[1].inward(1, &mut cell);
        relays[0].inward(1, &mut cell);
        assert!(client[0].inward(1, &mut cell).is_none());
        assert!(client[1].inward(1, &mut cell).is_none());
        assert_eq!(client[2].inward(1, &mut cell), Some(sent), "cell {n}");
        assert_eq!(cell[TAG_BYTES..], plain);
    }
}

#[test]
fn the_ratchet_changes_the_keys() {
    let (_, mut relays) = layers(1);
    let mut cell = [0; OURS];
    for _ in 0..RATCHET_CELLS - 1 {
        relays[0].inward(1, &mut cell);
    }
    let block = |layer: &RelayLayer<OURS>| {
        let mut probe = [0; OURS];
        layer.inward.uiv.encrypt(&[0; 16], 0, &mut probe);
        probe
    };
    let before = block(&relays[0]);
    relays[0].inward(1, &mut cell);
    assert_ne!(before, block(&relays[0]));
}

#[test]
fn any_bit_flipped_anywhere_destroys_this_cell_and_all_later_ones() {
    for hop in 0..3 {
        for offset in [0, 1, 7, 15, 16, 17, 21, 22, 23, 64, 255, 508, 509, 777, 1000, 1016, 1017] {
            let (mut client, mut relays) = layers(3);
            let mut cell = filled(7);
            outward(&mut client, &mut cell);
            for (i, relay) in relays.iter_mut().enumerate() {
                if i == hop {
                    cell[offset] ^= 1 << (offset % 8);
                }
                assert_eq!(relay.outward(1, &mut cell), None, "hop {hop}, offset {offset}");
            }
            let same = cell.iter().filter(|&&byte| byte == 7).count();
            assert!(same < 32, "hop {hop}, offset {offset}: {same} bytes survive");

            for _ in 0..3 {
                let mut cell = filled(7);
                outward(&mut client, &mut cell);
                for relay in &mut relays {
                    assert_eq!(relay.outward(1, &mut cell), None, "a later cell was accepted");
                }
                assert!(cell.iter().filter(|&&byte| byte == 7).count() < 32);
            }
        }
    }
}

#[test]
fn a_bit_flipped_towards_the_client_is_detected_at_every_hop() {
    for hop in 0..3 {
        for offset in [0, 15, 16, 22, 500, 1017] {
            let (mut client, mut relays) = layers(3);
            for later in 0..3 {
                let mut cell = filled(9);
                relays[2].originate(1, &mut cell);
                for i in (0..3).rev() {
                    if i < 2 {
                        relays[i].inward(1, &mut cell);
                    }
                    if i == hop && later == 0 {
                        cell[offset] ^= 0x80;
                    }
                }
                let recognised = client.iter_mut().any(|layer| layer.inward(1, &mut cell).is_some());
                assert!(!recognised, "hop {hop}, offset {offset}, cell {later}");
            }
        }
    }
}

#[test]
fn dropped_replayed_swapped_and_relabelled_cells_are_detected() {
    let run = |order: &[usize], command: u8| {
        let (mut client, mut relays) = layers(2);
        let cells: Vec<[u8; OURS]> = (0..3)
            .map(|_| {
                let mut cell = filled(1);
                outward(&mut client, &mut cell);
                cell
            })
            .collect();
        order
            .iter()
            .map(|&i| {
                let mut cell = cells[i];
                relays[0].outward(command, &mut cell);
                relays[1].outward(command, &mut cell).is_some()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(&[0, 1, 2], 1), [true, true, true]);
    assert_eq!(run(&[0, 2], 1), [true, false], "dropped");
    assert_eq!(run(&[0, 0, 1], 1), [true, false, false], "replayed");
    assert_eq!(run(&[1, 0, 2], 1), [false, false, false], "swapped");
    assert_eq!(run(&[0], 2), [false], "another command");
}
