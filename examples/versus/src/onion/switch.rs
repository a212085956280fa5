//! Hosts on one machine with delay, rate and loss between them: a network namespace for each, whose
//! one device is a TUN that this process answers. The kernel's TCP at both ends sees a wire; nothing
//! of the kernel shapes it. Needs root, `ip` and `/dev/net/tun`.

use std::collections::{BTreeSet, BinaryHeap};
use std::fs;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tappers::Tun;

use crate::Failure;
use crate::report::now;

/// Longest packet of a device, in bytes.
const MTU_BYTES: usize = 1500;
/// Longest wait for a busy wire before packets are dropped.
const QUEUE: Duration = Duration::from_millis(100);
/// What is due so soon counts as due: fewer wakeups for a little less precision.
const GRAIN: Duration = Duration::from_micros(250);
/// What any kernel has (RFC 5681). BBR paces what a link sends after a pause, which then is what one measures.
pub(super) const RENO: &str = "reno";
/// Which congestion control TCP connections of a namespace have.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// The hosts are 10.203.0.1 and so on.
const SUBNET: [u8; 3] = [10, 203, 0];

/// The wire of a host. Rate and loss are of what it sends and of what it receives, each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    /// What each packet that the host sends takes: to another host and back, twice that.
    pub(super) delay: Duration,
    pub(super) bytes_per_second: Option<u32>,
    /// Of a thousand packets.
    pub(super) lost: u16,
}

impl Wire {
    /// How long a packet occupies it.
    fn time(&self, bytes: usize) -> Duration {
        self.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos(bytes as u64 * 1_000_000_000 / u64::from(rate))
        })
    }
}

/// One direction of a wire.
struct Line {
    wire: Wire,
    free: Instant,
    noise: u64,
}

impl Line {
    fn new(wire: Wire, noise: u64) -> Self {
        Self { wire, free: now(), noise }
    }

    /// When a packet has passed; nothing if it is lost or would wait too long.
    fn pass(&mut self, bytes: usize, arrival: Instant) -> Option<Instant> {
        // Knuth's linear congruential generator; its high bits are good enough for a coin.
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (self.noise >> 33) % 1000 < self.wire.lost.into() {
            return None;
        }
        let begin = self.free.max(arrival);
        if begin.duration_since(arrival) > QUEUE {
            return None;
        }
        self.free = begin + self.wire.time(bytes);
        Some(self.free)
    }
}

/// A packet under way, by the time at which it is due. The earliest is the greatest.
#[derive(PartialEq, Eq)]
struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due).then_with(|| other.bytes.cmp(&self.bytes))
    }
}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Who sent IPv4 packets to whom; to nobody here, if there is no other host.
type Sent = Arc<Mutex<BTreeSet<(usize, Option<usize>)>>>;

/// The hosts, whose namespaces go with this value.
pub(super) struct Switch {
    namespaces: Vec<String>,
    sent: Sent,
}

/// Runs `ip` with a line of arguments.
fn ip(line: &str) -> Result<(), Failure> {
    run(Command::new("ip").args(line.split_whitespace()))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// The congestion control that this machine's TCP has.
pub(super) fn congestion_control() -> Result<String, Failure> {
    Ok(fs::read_to_string(CONGESTION_CONTROL)?.trim().to_owned())
}

impl Switch {
    /// A host for each wire, all with one congestion control.
    pub(super) fn new(wires: &[Wire], congestion_control: &str) -> Result<Self, Failure> {
        let mut switch = Self { namespaces: Vec::new(), sent: Sent::default() };
        let mut devices = Vec::new();
        for host in 0..wires.len() {
            let namespace = format!("nonos-{}-{host}", std::process::id());
            ip(&format!("netns add {namespace}"))?;
            switch.namespaces.push(namespace.clone());
            let device = Tun::new()?;
            let name = device.name()?.name().to_string_lossy().into_owned();
            // A device stays with whoever opened it, wherever it goes.
            ip(&format!("link set {name} netns {namespace}"))?;
            ip(&format!("-n {namespace} addr add {}/24 dev {name}", Self::address(host)))?;
            ip(&format!("-n {namespace} link set {name} mtu {MTU_BYTES} up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            let set = format!("echo {congestion_control} > {CONGESTION_CONTROL}");
            run(Command::new("ip").args(["netns", "exec", &namespace, "sh", "-c", &set]))?;
            devices.push(Arc::new(device));
        }
        let (senders, receivers): (Vec<_>, Vec<_>) = devices.iter().map(|_| channel()).unzip();
        for (((host, device), wire), arriving) in devices.into_iter().enumerate().zip(wires).zip(receivers) {
            let (sending, senders) = (Line::new(*wire, host as u64), senders.clone());
            let receiving = Line::new(*wire, !(host as u64));
            let reader = Arc::clone(&device);
            // They end when their namespace takes the device away.
            let sent = Arc::clone(&switch.sent);
            thread::spawn(move || take(&reader, (host, sending), &senders, &sent));
            thread::spawn(move || give(&device, receiving, &arriving));
        }
        Ok(switch)
    }

    pub(super) fn namespace(&self, host: usize) -> Result<&str, Failure> {
        Ok(self.namespaces.get(host).ok_or("no such host")?)
    }

    /// Who sent packets to whom so far, lost ones included; to nobody, if the address is of no host here.
    pub(super) fn sent(&self) -> BTreeSet<(usize, Option<usize>)> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn address(host: usize) -> String {
        let [a, b, c] = SUBNET;
        format!("{a}.{b}.{c}.{}", host + 1)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // What cannot be removed is of no use to anybody and goes with the machine.
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

/// Takes what a host sends and passes it on with the time at which it arrives.
fn take(device: &Tun, (from, mut line): (usize, Line), hosts: &[Sender<Packet>], sent: &Sent) {
    let mut buffer = [0; MTU_BYTES];
    // What this host is known to have sent: the others need not wait for each of its packets.
    let mut known = BTreeSet::new();
    while let Ok(count) = device.recv(&mut buffer) {
        let Some(bytes) = buffer.get(..count) else { continue };
        // IPv4 without options (RFC 791, section 3.1); anything else has no host here.
        let (Some(&[a, b, c, host]), Some(0x45)) =
            (bytes.get(16..20).and_then(|address| address.first_chunk()), bytes.first())
        else {
            continue;
        };
        let to = usize::from(host).checked_sub(1).filter(|to| [a, b, c] == SUBNET && *to < hosts.len());
        if known.insert(to) {
            sent.lock().unwrap_or_else(PoisonError::into_inner).insert((from, to));
        }
        let Some(to) = to.and_then(|to| hosts.get(to)) else { continue };
        if let Some(passed) = line.pass(count, now()) {
            let _ = to.send(Packet { due: passed + line.wire.delay, bytes: bytes.to_vec() });
        }
    }
}

/// Gives a host what is due, in order.
fn give(device: &Tun, mut line: Line, arriving: &Receiver<Packet>) {
    let mut under_way = BinaryHeap::new();
    loop {
        let wait = under_way
            .peek()
            .map_or(Duration::MAX, |packet: &Packet| packet.due.saturating_duration_since(now()));
        if wait > GRAIN {
            match arriving.recv_timeout(wait) {
                Ok(packet) => under_way.push(packet),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            continue;
        }
        let Some(Packet { due, bytes }) = under_way.pop() else { continue };
        // A packet that waits for the wire here is late by less than the queue; what follows it waits too.
        let Some(free) = line.pass(bytes.len(), due) else { continue };
        let wait = free.saturating_duration_since(now());
        if wait > GRAIN {
            thread::sleep(wait);
        }
        if device.send(&bytes).is_err() {
            return;
        }
    }
}
