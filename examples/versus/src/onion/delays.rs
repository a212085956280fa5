//! Circuits over links with delay, rate and loss: a network namespace for each node, joined by a
//! bridge in one more, and netem on both ends of every cable. Needs root, `ip` and `tc`.

use std::process::Command;

use super::processes::{Process, path};
use crate::Failure;
use crate::report::{Better, Of, Row, count, median};

/// Delay that every node adds to what it sends: a link has twice that there and back.
const DELAY_MS: u32 = 25;
/// Time over the three links of a path and back, in milliseconds.
const PATH_MS: f64 = 150.0;
/// Processor time that building a circuit may take beyond the round trip, in milliseconds.
const BUILD_MS: f64 = 4.0;
/// 25 MB/s.
const PATH_MBIT: u32 = 200;
/// Of each relay when a transfer has several paths: two cores carry this without being the limit.
const RELAY_MBIT: u32 = 100;
/// Packets that wait in netem, those under way included.
const QUEUE_PACKETS: u32 = 3000;
/// Bytes of the transfer that shows the plateau: six seconds at 25 MB/s.
const BYTES: usize = 150_000_000;
/// Tenths of a second until the plateau counts as reached.
const RISE_TENTHS: usize = 20;
/// The object that comes over several circuits.
const OBJECT_BYTES: usize = 64 << 20;
const BUILDS: usize = 5;
const MEGABYTE: f64 = 1e6;

/// What one node's cable is like, both ways; the delay is only on what the node sends.
#[derive(Clone, Copy)]
struct Shape {
    mbit: Option<u32>,
    loss_percent: u32,
}

impl Shape {
    const FREE: Self = Self { mbit: None, loss_percent: 0 };

    const fn rate(mbit: u32) -> Self {
        Self { mbit: Some(mbit), loss_percent: 0 }
    }

    fn netem(self, delay_ms: u32) -> String {
        let rate = self.mbit.map_or_else(String::new, |mbit| format!(" rate {mbit}mbit"));
        let Self { loss_percent, .. } = self;
        format!("netem limit {QUEUE_PACKETS} delay {delay_ms}ms loss {loss_percent}%{rate}")
    }
}

/// The namespaces, which go with this value.
struct Space {
    names: Vec<String>,
}

/// Runs `ip` or `tc` by its line of arguments.
fn run(line: &str) -> Result<(), Failure> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().ok_or("a line names a program")?).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

impl Space {
    /// A bridge, and a namespace for each shape.
    fn new(shapes: &[Shape]) -> Result<Self, Failure> {
        let prefix = format!("nonos{}", std::process::id());
        let hub = format!("{prefix}-hub");
        let mut space = Self { names: Vec::new() };
        space.add(&hub)?;
        run(&format!("ip -n {hub} link add bridge type bridge"))?;
        run(&format!("ip -n {hub} link set bridge up"))?;
        for (number, shape) in shapes.iter().enumerate() {
            let name = format!("{prefix}-{number}");
            space.add(&name)?;
            run(&format!("ip -n {hub} link add port{number} type veth peer name cable netns {name}"))?;
            run(&format!("ip -n {name} addr add {}/24 dev cable", address(number)))?;
            // Offloads would lose and delay sixty packets as one.
            run(&format!("ip -n {name} link set cable gso_max_segs 1 up"))?;
            run(&format!("ip -n {name} link set lo up"))?;
            run(&format!("ip -n {hub} link set port{number} master bridge up"))?;
            run(&format!("tc -n {name} qdisc add dev cable root {}", shape.netem(DELAY_MS)))?;
            run(&format!("tc -n {hub} qdisc add dev port{number} root {}", shape.netem(0)))?;
        }
        Ok(space)
    }

    fn add(&mut self, name: &str) -> Result<(), Failure> {
        run(&format!("ip netns add {name}"))?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Starts a node in the namespace of a shape.
    fn start(&self, number: usize, shape: usize, object_bytes: usize) -> Result<Process, Failure> {
        // The hub is the first.
        let name = self.names.get(shape + 1).ok_or("no such namespace")?;
        let listen = format!("/ip4/{}/tcp/0", address(shape));
        Process::start(u8::try_from(number)?, &listen, object_bytes, Some(name))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        for name in &self.names {
            // What cannot be removed is of no use to anybody and goes with the machine.
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

fn address(shape: usize) -> String {
    format!("10.203.0.{}", shape + 1)
}

pub(super) fn compare(rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut rows = one_path(rounds)?;
    rows.push(three_paths(rounds)?);
    Ok(rows)
}

/// Client, three relays and, beside the last of them, the server: three links of 50 ms.
fn one_path(rounds: usize) -> Result<Vec<Row>, Failure> {
    let space = Space::new(&[Shape::rate(PATH_MBIT); 4])?;
    let mut client = space.start(1, 0, 0)?;
    let mut first = space.start(2, 1, 0)?;
    let mut second = space.start(3, 2, 0)?;
    let mut third = space.start(4, 3, 0)?;
    let mut server = space.start(5, 3, 0)?;
    client.dial(&first)?;
    first.dial(&second)?;
    second.dial(&third)?;
    third.dial(&server)?;
    let (mut build, mut plateau, mut rise) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let path = path([&mut first, &mut second, &mut third, &mut server])?;
        // The first opens the links.
        client.build(path.clone())?;
        let seconds: Vec<f64> = (0..BUILDS).map(|_| client.build(path.clone())).collect::<Result<_, _>>()?;
        build.push(median(&seconds) * 1e3);
        let tenths = client.fetch(BYTES)?.tenths;
        let flat = tenths.get(RISE_TENTHS..tenths.len().saturating_sub(1)).unwrap_or_default();
        if flat.is_empty() {
            return Err("the transfer ended before its plateau".into());
        }
        let mean = count(flat.iter().sum()) / count(flat.len());
        let half = tenths.iter().position(|bytes| count(*bytes) * 2.0 >= mean).unwrap_or(tenths.len());
        plateau.push(mean * 10.0 / MEGABYTE);
        rise.push(count(half + 1) / 10.0);
    }
    Ok(vec![
        Row::alone("3 links of 50 ms: circuit build", "ms", Better::Lower, &build)
            .target(Of::Ours, PATH_MS + BUILD_MS),
        Row::alone("3 links of 50 ms and 25 MB/s: goodput", "MB/s", Better::Higher, &plateau)
            .target(Of::Ours, 20.0),
        Row::alone("3 links of 50 ms and 25 MB/s: half of that after", "s", Better::Lower, &rise)
            .target(Of::Ours, 0.5),
    ])
}

/// An object over three circuits of two relays each, one circuit with loss at both its relays.
fn three_paths(rounds: usize) -> Result<Row, Failure> {
    let good = Shape::rate(RELAY_MBIT);
    let lossy = Shape { loss_percent: 1, ..good };
    let space = Space::new(&[Shape::FREE, Shape::FREE, good, good, good, good, lossy, lossy])?;
    let mut client = space.start(1, 0, 0)?;
    let mut server = space.start(2, 1, OBJECT_BYTES)?;
    let mut relays: Vec<Process> =
        (2..8).map(|shape| space.start(shape + 1, shape, 0)).collect::<Result<_, _>>()?;
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
