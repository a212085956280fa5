//! Host calls with arguments of a hostile guest, without an engine.

use std::sync::Arc;

use nonos_identity::{NetworkId, NodeId, Timestamp, WideDigest};

use super::rights::Rights;
use crate::capsule::CapsuleId;
use crate::execution::{Invocation, Preopen};
use crate::fs::Image;
use crate::host_call::{HostCall, HostCallSet};
use crate::policy::Policy;
use crate::runtime::engine::{End, Guest};
use crate::runtime::session::{Code, Command, Session};

pub(super) const MEMORY_BYTES: usize = 65_536;
/// Where lists of vectors, paths and buffers are, so that not every call is nonsense.
const IOVECS_AT: usize = 512;
const PATHS_AT: usize = 1_024;
const BUFFER_AT: u32 = 8_192;
const PATH_BYTES: usize = 16;
/// Cut at any length they are paths too.
const PATHS: [&[u8]; 8] = [
    b"x/y/z/x/y/z/x/y",
    b"a/b/../../c/./a",
    b"c/a/b/c/a/b/c/a",
    b"d/e/f/../../e/g",
    b"l/../a/l/l/b/..",
    b"y//x/z/l/../l/.",
    b"../a/b/c/d/e/f/",
    b"./d/../a/../x/y",
];

/// A memory and a meter.
pub(super) struct BareGuest {
    pub(super) memory: Vec<u8>,
    gas: i64,
    depth: i32,
}

impl BareGuest {
    pub(super) const fn new(memory: Vec<u8>) -> Self {
        Self { memory, gas: 0, depth: 0 }
    }
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
    for (index, path) in PATHS.iter().enumerate() {
        put(PATHS_AT + index * PATH_BYTES, path);
    }
    memory
}

/// What an honest guest would pass: `d` a directory, `f` a descriptor, `p` and `l` a path and its
/// length, `v` and `n` vectors and their number, `b` and `s` a buffer and its size, `w` where a
/// result goes, `o` an offset or size, `r` rights, `t` flags, and `0` nothing but zero.
fn plausible(call: HostCall) -> &'static str {
    use HostCall as H;
    match call {
        H::ArgsGet | H::ArgsSizesGet | H::EnvironGet | H::EnvironSizesGet => "bw",
        H::ClockResGet => "tw",
        H::ClockTimeGet => "t0w",
        H::FdAdvise => "foot",
        H::FdAllocate => "foo",
        H::FdFdstatGet | H::FdFilestatGet | H::FdPrestatGet | H::FdTell => "fw",
        H::FdFdstatSetFlags => "ft",
        H::FdFdstatSetRights => "frr",
        H::FdFilestatSetSize => "fo",
        H::FdFilestatSetTimes => "foot",
        H::FdPread | H::FdPwrite => "fvnow",
        H::FdPrestatDirName => "dbs",
        H::FdRead | H::FdWrite => "fvnw",
        H::FdReaddir => "dbs0w",
        H::FdRenumber => "ff",
        H::FdSeek => "fotw",
        H::PathCreateDirectory | H::PathRemoveDirectory | H::PathUnlinkFile => "dpl",
        H::PathFilestatGet => "dtplw",
        H::PathFilestatSetTimes => "dtploot",
        H::PathLink => "d0pldpl",
        H::PathOpen => "dtpltrrtw",
        H::PathReadlink => "dplbsw",
        H::PathRename => "dpldpl",
        H::PathSymlink => "pldpl",
        H::PollOneoff => "bbnw",
        H::RandomGet => "bs",
        H::SockAccept => "ftw",
        H::SockRecv | H::SockSend => "fvntww",
        H::SockShutdown => "ft",
        _ => "f",
    }
}

fn operand(kind: Option<char>, bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let mut next = || u64::from(bytes.next().unwrap_or(0));
    let choice = next();
    match (choice, kind) {
        // The ends of memory and of numbers, any bit, and anything.
        (250, _) => MEMORY_BYTES as u64 - next() % 10,
        (251, _) => u64::from(u32::MAX) - next() % 10,
        (252, _) => u64::MAX - next() % 10,
        (253, _) => 1 << (next() % 64),
        (254.., _) => u64::from_le_bytes([(); 8].map(|()| bytes.next().unwrap_or(0))),
        (0..=199, Some('d')) => 3 + choice % 2,
        (_, Some('d')) => 5 + choice % 4,
        (_, Some('f')) => choice % 10,
        (_, Some('p')) => PATHS_AT as u64 + choice % PATHS.len() as u64 * PATH_BYTES as u64,
        (0..=199, Some('l')) => 1 + choice % 3 * 2,
        (_, Some('l')) => choice % 16,
        (_, Some('v')) => IOVECS_AT as u64 + choice % 5 * 8,
        (_, Some('n')) => choice % 4,
        (_, Some('b')) => u64::from(BUFFER_AT) + choice * 16,
        (_, Some('s')) => choice * 3,
        (_, Some('w')) => 256 + choice % 4 * 8,
        (_, Some('o')) => choice * choice / 3,
        (_, Some('r')) if choice % 4 > 0 => (1 << 28) - 1 - if choice % 2 > 0 { 1 << 6 } else { 0 },
        (_, Some('t')) => (choice % 8) & (choice / 8),
        _ => 0,
    }
}

/// A run with two directories and little of everything.
pub(super) fn session() -> Session {
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
    let command = Command::new(capsule, Code::NONE, policy, "_start".to_owned());
    Session::new(Arc::new(command), invocation, Box::new(crate::mesh_port::NoMesh))
}

/// A new file, one of the image, and a directory: descriptors 5, 6 and 7.
fn open_some(session: &mut Session, guest: &mut BareGuest) {
    let files = Rights::FILE.bits();
    for (path, len, flags, rights) in
        [(0, 1, 1, files), (2, 1, 0, files), (3, 3, 2, Rights::DIRECTORY.bits())]
    {
        let path = (PATHS_AT + path * PATH_BYTES) as u64;
        let inheriting = if rights == files { 0 } else { Rights::ALL.bits() };
        let args = [3, 0, path, len, flags, rights, inheriting, 0, 256];
        assert_eq!(session.call(HostCall::PathOpen, &args, guest), Ok(Some(0)));
    }
}

/// Makes the calls that the bytes describe, up to the end of the bytes or of the run.
///
/// # Panics
/// If a call is not charged, a quota is overrun, or the file system is not whole.
pub(crate) fn drive(bytes: &[u8]) {
    let mut session = session();
    let mut guest = BareGuest::new(memory(bytes));
    session.begin(&mut guest);
    open_some(&mut session, &mut guest);
    let mut bytes = bytes.iter().copied();
    while let Some(number) = bytes.next() {
        let Some(call) = HostCall::from_number(number % 46) else { break };
        // The end comes early enough.
        if call == HostCall::ProcExit && number < 200 {
            continue;
        }
        let args: Vec<u64> = call
            .params()
            .chars()
            .zip(plausible(call).chars().map(Some).chain(core::iter::repeat(None)))
            .map(|(width, kind)| {
                operand(kind, &mut bytes) & if width == 'i' { 0xffff_ffff } else { u64::MAX }
            })
            .collect();
        let before = session.gas_used;
        let answer = session.call(call, &args, &mut guest);
        assert!(session.gas_used >= before + call.base_gas(), "{call} was not charged");
        let output = session.world.stdout.len() + session.world.stderr.len();
        assert!(output as u64 <= session.command.policy.output_max_bytes);
        session.world.files.check();
        if answer.is_err() || guest.gas < 0 && session.tick(&mut guest).is_err() {
            break;
        }
    }
    session.end(End::Stopped, Some(&mut guest));
    session.world.files.check();
}
