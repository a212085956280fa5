//! Circuits over links with delay, rate and loss, a process and a network namespace for each node.

use std::time::Duration;

use super::processes::{Process, link_all, path};
use super::switch::{RENO, Switch, Wire, congestion_control};
use crate::Failure;
use crate::report::{Better, Of, Paired, Row, count, median};

/// What every node adds to what it sends: a link has twice that there and back.
const DELAY: Duration = Duration::from_millis(25);
/// Time over the three links of a path and back, in milliseconds, as the wires are set.
const PATH_MS: f64 = 150.0;
/// What that is measured as, in each round.
const PATH: &str = "a TCP handshake over each of the three links";
/// Processor time that building a circuit may take beyond the round trip, in milliseconds.
const BUILD_MS: f64 = 4.0;
/// Of every node, in bytes per second.
const PATH_RATE: u32 = 25_000_000;
/// Of each relay when a transfer has several paths: two cores carry this without being the limit.
const RELAY_RATE: u32 = 10_000_000;
/// Of a thousand packets, at both relays of the bad path and both ways.
const LOST: u16 = 10;
/// Bytes of the transfer that shows the plateau: six seconds at the rate.
const BYTES: usize = 150_000_000;
/// Hundredths of a second until the plateau counts as reached.
const RISE: usize = 200;
/// Hundredths of a second of [`PATH_MS`].
const ROUND_TRIP: usize = 15;
/// The object that comes over several circuits.
const OBJECT_BYTES: usize = 64 << 20;
const BUILDS: usize = 5;
/// Relays of a client and a service, beside the two.
const RELAYS: usize = 6;
/// Relays of their circuits before the end: three links, as [`PATH_MS`] has.
const HOPS: u8 = 2;
/// Round trips over a path for a stream to a service whose descriptor is at hand.
const WARM_TRIPS: f64 = 3.0;
/// Circuits that are built within those, with the processor time of [`BUILD_MS`] each.
const WARM_BUILDS: f64 = 2.0;
const MEGABYTE: f64 = 1e6;

const fn wire(bytes_per_second: Option<u32>, lost: u16) -> Wire {
    Wire { delay: DELAY, bytes_per_second, lost }
}

/// Starts a node on a host.
fn start(switch: &Switch, number: usize, host: usize, object_bytes: usize) -> Result<Process, Failure> {
    let listen = format!("/ip4/{}/tcp/0", Switch::address(host));
    Process::start(u8::try_from(number)?, &listen, object_bytes, Some(switch.namespace(host)?))
}

pub(super) fn compare(rounds: usize) -> Result<Vec<Row>, Failure> {
    let [build, goodput, half] = one_path(RENO, rounds)?;
    let mut rows = vec![
        build.target(Of::Ratio, 1.0 + BUILD_MS / PATH_MS),
        goodput.target(Of::Ours, 20.0),
        half.target(Of::Ours, 0.5),
    ];
    rows.extend(one_path(&congestion_control()?, rounds)?);
    rows.push(three_paths(rounds)?);
    rows.extend(service(rounds)?);
    Ok(rows)
}

/// Client, three relays and, beside the last of them, the server: three links of 50 ms.
fn one_path(tcp: &str, rounds: usize) -> Result<[Row; 3], Failure> {
    let switch = Switch::new(&[wire(Some(PATH_RATE), 0); 4], tcp)?;
    let mut client = start(&switch, 1, 0, 0)?;
    let mut first = start(&switch, 2, 1, 0)?;
    let mut second = start(&switch, 3, 2, 0)?;
    let mut third = start(&switch, 4, 3, 0)?;
    let mut server = start(&switch, 5, 3, 0)?;
    client.dial(&first)?;
    first.dial(&second)?;
    second.dial(&third)?;
    third.dial(&server)?;
    let (mut build, mut plateau, mut rise) = (Paired::default(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let links = [client.round_trip(1)?, first.round_trip(2)?, second.round_trip(3)?];
        let path = path([&mut first, &mut second, &mut third, &mut server])?;
        // The first opens the links.
        client.build(path.clone())?;
        let seconds: Vec<f64> = (0..BUILDS).map(|_| client.build(path.clone())).collect::<Result<_, _>>()?;
        build.push(median(&seconds) * 1e3, links.iter().sum::<f64>() * 1e3);
        let (rate, half) = ramp(&client.fetch(BYTES)?.hundredths)?;
        plateau.push(rate * 100.0 / MEGABYTE);
        rise.push(half / 100.0);
    }
    let links = format!("3 links of 50 ms and 25 MB/s, TCP {tcp}");
    Ok([
        build.row(format!("{links}: circuit build"), "ms", Better::Lower, PATH),
        Row::alone(format!("{links}: goodput"), "MB/s", Better::Higher, &plateau),
        Row::alone(format!("{links}: half of that after"), "s", Better::Lower, &rise),
    ])
}

/// The plateau of a transfer, in bytes per hundredth of a second, and the hundredths until half of it came within a
/// round trip: of a burst, which is shorter, no more counts than what a round trip brings.
fn ramp(hundredths: &[usize]) -> Result<(f64, f64), Failure> {
    // The last may not be whole.
    let flat = hundredths.get(RISE..hundredths.len().saturating_sub(1)).unwrap_or_default();
    if flat.is_empty() {
        return Err("the transfer ended before its plateau".into());
    }
    let rate = count(flat.iter().sum()) / count(flat.len());
    let half = |trip: &[usize]| count(trip.iter().sum()) * 2.0 >= rate * count(ROUND_TRIP);
    let before = hundredths.windows(ROUND_TRIP).position(half).unwrap_or(hundredths.len());
    Ok((rate, count(before + ROUND_TRIP)))
}

/// An object over three circuits of two relays each, one circuit with loss at both its relays.
fn three_paths(rounds: usize) -> Result<Row, Failure> {
    let (free, good, lossy) = (wire(None, 0), wire(Some(RELAY_RATE), 0), wire(Some(RELAY_RATE), LOST));
    let switch = Switch::new(&[free, free, good, good, good, good, lossy, lossy], RENO)?;
    let mut client = start(&switch, 1, 0, 0)?;
    let mut server = start(&switch, 2, 1, OBJECT_BYTES)?;
    let mut relays: Vec<Process> =
        (2..8).map(|host| start(&switch, host + 1, host, 0)).collect::<Result<_, _>>()?;
    for pair in relays.chunks_mut(2) {
        let [near, far] = pair else { return Err("two relays for each path".into()) };
        client.dial(near)?;
        near.dial(far)?;
        far.dial(&server)?;
    }
    let (mut three, mut two) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut paths = Vec::new();
        for pair in relays.chunks_mut(2) {
            paths.push(path(pair.iter_mut().chain([&mut server]))?);
        }
        let good = paths.get(..2).unwrap_or_default().to_vec();
        three.push(client.fetch_object(OBJECT_BYTES, paths)?.0);
        two.push(client.fetch_object(OBJECT_BYTES, good)?.0);
    }
    let name = "64 MiB over 3 circuits, one with 1 % loss";
    Ok(Row::paired(name, "s", Better::Lower, &three, "the two good circuits alone", &two)
        .target(Of::Ratio, 1.1))
}

/// A client, an onion service and relays, each 50 ms from each.
fn service(rounds: usize) -> Result<Vec<Row>, Failure> {
    let switch = Switch::new(&[wire(None, 0); RELAYS + 2], RENO)?;
    let mut nodes: Vec<Process> =
        (0..RELAYS + 2).map(|host| start(&switch, host + 1, host, 0)).collect::<Result<_, _>>()?;
    link_all(&mut nodes)?;
    // A circuit over each link opens it for cells: that is not what is measured.
    let relays = path(nodes.iter_mut().skip(2))?;
    for (at, node) in nodes.iter_mut().enumerate() {
        for relay in relays.iter().skip((at + 1).saturating_sub(2)) {
            node.build(vec![relay.clone()])?;
        }
    }
    let [client, server, near, far, ..] = nodes.as_mut_slice() else {
        return Err("a client, a service and relays".into());
    };
    client.learn(&relays, HOPS)?;
    server.learn(&relays, HOPS)?;
    let address = server.offer()?;
    let (mut cold, mut without, mut prepared, mut warm) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let path: f64 = [client.round_trip(2)?, near.round_trip(3)?, far.round_trip(1)?].iter().sum();
        let reached = client.reach(&address)?;
        let trips = |seconds: f64| seconds / path;
        cold.push(trips(reached.cold));
        without.push(trips(reached.without));
        prepared.push(trips(reached.prepared));
        warm.push(trips(reached.warm));
    }
    let target = WARM_TRIPS + WARM_BUILDS * BUILD_MS / PATH_MS;
    let row = |name: &str, trips: &[f64]| {
        Row::alone(format!("onion service over paths of 150 ms: {name}"), "paths", Better::Lower, trips)
    };
    Ok(vec![
        row("dial, descriptor to be fetched", &cold),
        row("dial, no circuit ahead", &without),
        row("dial, prepared", &prepared).target(Of::Ours, target),
        row("dial after another", &warm).target(Of::Ours, target),
    ])
}
