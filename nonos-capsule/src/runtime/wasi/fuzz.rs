//! Host calls with arguments of a hostile guest, without an engine.

use nonos_identity::{NetworkId, NodeId, Timestamp, WideDigest};

use crate::capsule::CapsuleId;
use crate::execution::{Invocation, Preopen};
use crate::fs::Image;
use crate::host_call::{HostCall, HostCallSet};
use crate::policy::Policy;
use crate::runtime::engine::{End, Guest};
use crate::runtime::session::Session;

const MEMORY_BYTES: usize = 65_536;
/// Where lists of vectors, paths and buffers are, so that not every call is nonsense.
const IOVECS_AT: usize = 512;
const PATHS_AT: usize = 1_024;
const BUFFER_AT: u32 = 8_192;

/// A memory and a meter.
struct BareGuest {
    memory: Vec<u8>,
    gas: i64,
    depth: i32,
}

impl Guest for BareGuest {
    fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    fn gas(&mut self) -> i64 {
        self.gas
    }

    fn set_gas(&mut self, gas: i64) {
        self.gas = gas;
    }

    fn depth(&mut self) -> i32 {
        self.depth
    }

    fn set_depth(&mut self, depth: i32) {
        self.depth = depth;
    }

    fn globals(&mut self, _: &mut Vec<u8>) {}
}

fn memory(bytes: &[u8]) -> Vec<u8> {
    let mut memory = vec![0; MEMORY_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in memory.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    put(0, bytes);
    for (index, len) in [0, 7, 100, 5_000, 60_000].into_iter().enumerate() {
        let vector = [BUFFER_AT.to_le_bytes(), u32::to_le_bytes(len)].concat();
        put(IOVECS_AT + index * 8, &vector);
    }
    put(PATHS_AT, b"a/b/../c/./d/l/a/b//..././a/../../b/l/l/c/d/e/f/g/h/");
    memory
}

/// An operand: small numbers are descriptors, flags and lengths; then pointers to something
/// sensible; then the ends of memory and of numbers; then anything.
fn operand(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let mut next = || u64::from(bytes.next().unwrap_or(0));
    let kind = next();
    match kind {
        0..=99 => kind % 12,
        100..=149 => PATHS_AT as u64 + kind - 100,
        150..=169 => IOVECS_AT as u64 + (kind - 150) % 5 * 8,
        170..=199 => u64::from(BUFFER_AT) + next() * 16,
        200..=209 => MEMORY_BYTES as u64 - kind % 10,
        210..=219 => u64::from(u32::MAX) - kind % 10,
        220..=229 => u64::MAX - kind % 10,
        230..=239 => 1 << (next() % 64),
        _ => u64::from_le_bytes([(); 8].map(|()| bytes.next().unwrap_or(0))),
    }
}

fn session() -> Session {
    let policy = Policy {
        gas_limit: 3_000_000,
        host_calls: HostCallSet::ALL,
        output_max_bytes: 4_096,
        fs_max_bytes: 20_000,
        fs_max_files: 12,
        checkpoint_interval_gas: Policy::MIN_CHECKPOINT_INTERVAL_GAS,
        ..Policy::default()
    };
    let caller = NodeId::from_bytes([1; 32]);
    let files = [("a/b", &b"content"[..]), ("c", &[7; 6_000]), ("d/e/f", b"")];
    let image = Image::from_files(files).unwrap_or_default();
    let preopen = |path: &str| Preopen { path: path.to_owned(), image: image.clone() };
    let invocation = Invocation {
        input: b"standard input".to_vec(),
        args: vec!["program".to_owned()],
        env: vec![("A".to_owned(), "b".to_owned())],
        preopens: vec![preopen("/"), preopen("/x")],
        ..Invocation::new(caller, [2; 32], Timestamp::from_secs(1), NetworkId::from_name("fuzz"))
    };
    let capsule = CapsuleId::from_digest(WideDigest::of_bytes(b"fuzz"));
    Session::new(capsule, "_start".to_owned(), policy, &[], invocation, Box::new(crate::mesh_port::NoMesh))
}

/// Makes the calls that the bytes describe, up to the end of the bytes or of the run.
///
/// # Panics
/// If a call is not charged, a quota is overrun, or the file system is not whole.
pub(crate) fn drive(bytes: &[u8]) {
    let mut session = session();
    let mut guest = BareGuest { memory: memory(bytes), gas: 0, depth: 0 };
    session.begin(&mut guest);
    let mut bytes = bytes.iter().copied();
    while let Some(number) = bytes.next() {
        let Some(call) = HostCall::from_number(number % 46) else { break };
        let args: Vec<u64> = call
            .params()
            .chars()
            .map(|kind| operand(&mut bytes) & if kind == 'i' { u64::from(u32::MAX) } else { u64::MAX })
            .collect();
        let before = session.gas_used;
        let answer = session.call(call, &args, &mut guest);
        assert!(session.gas_used >= before + call.base_gas(), "{call} was not charged");
        let output = session.world.stdout.len() + session.world.stderr.len();
        assert!(output as u64 <= session.policy.output_max_bytes);
        session.world.files.check();
        if answer.is_err() || guest.gas < 0 && session.tick(&mut guest).is_err() {
            break;
        }
    }
    session.end(End::Stopped, Some(&mut guest));
    session.world.files.check();
}
