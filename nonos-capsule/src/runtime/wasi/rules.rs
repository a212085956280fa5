//! The rules of preview 1, call by call, without an engine.
#![expect(clippy::cast_possible_truncation, reason = "results are as wide as the test knows they are")]

use super::Errno;
use super::fuzz::{BareGuest, MEMORY_BYTES, session};
use super::rights::Rights;
use crate::host_call::HostCall::{self, *};
use crate::runtime::session::Session;

const PATH: u32 = 1_024;
const OTHER: u32 = 8_192;
const IOVEC: u32 = 512;
const RESULT: u32 = 256;
const BUFFER: u32 = 16_384;
const ROOT: u32 = 3;

const CREATE: u64 = 1;
const DIRECTORY: u64 = 2;
const EXCLUSIVE: u64 = 4;
const TRUNCATE: u64 = 8;

/// A guest in the middle of a run: the directories of [`session`] hold `a/b` with `content`, `c`
/// with 6 000 bytes, and `d/e/f`.
struct Host {
    session: Session,
    guest: BareGuest,
}

impl Host {
    fn new() -> Self {
        let (mut session, mut guest) = (session(), BareGuest::new(vec![0; MEMORY_BYTES]));
        session.begin(&mut guest);
        Self { session, guest }
    }

    fn call(&mut self, call: HostCall, args: &[u64]) -> u32 {
        self.session.call(call, args, &mut self.guest).unwrap().unwrap()
    }

    fn put(&mut self, at: u32, bytes: &[u8]) -> (u64, u64) {
        self.guest.memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
        (u64::from(at), bytes.len() as u64)
    }

    fn result(&self) -> u64 {
        u64::from_le_bytes(*self.guest.memory[RESULT as usize..].first_chunk().unwrap())
    }

    fn open_with(
        &mut self,
        fd: u32,
        path: &str,
        flags: u64,
        rights: Rights,
        inherit: Rights,
    ) -> Result<u32, u32> {
        let (at, len) = self.put(PATH, path.as_bytes());
        let args = [u64::from(fd), 0, at, len, flags, rights.bits(), inherit.bits(), 0, u64::from(RESULT)];
        match self.call(PathOpen, &args) {
            0 => Ok(self.result() as u32),
            errno => Err(errno),
        }
    }

    fn open(&mut self, path: &str, flags: u64) -> Result<u32, u32> {
        self.open_with(ROOT, path, flags, Rights::FILE, Rights::NONE)
    }

    fn open_directory(&mut self, path: &str) -> u32 {
        self.open_with(ROOT, path, DIRECTORY, Rights::DIRECTORY, Rights::ALL).unwrap()
    }

    fn at(&mut self, call: HostCall, path: &str) -> u32 {
        let (at, len) = self.put(PATH, path.as_bytes());
        self.call(call, &[u64::from(ROOT), at, len])
    }

    fn stat(&mut self, path: &str, follow: u64) -> Result<[u64; 8], u32> {
        let (at, len) = self.put(PATH, path.as_bytes());
        match self.call(PathFilestatGet, &[u64::from(ROOT), follow, at, len, u64::from(RESULT)]) {
            0 => Ok(core::array::from_fn(|field| {
                u64::from_le_bytes(*self.guest.memory[RESULT as usize + field * 8..].first_chunk().unwrap())
            })),
            errno => Err(errno),
        }
    }

    fn two(&mut self, call: HostCall, old: &str, new: &str) -> u32 {
        let root = u64::from(ROOT);
        let ((old, old_len), (new, new_len)) =
            (self.put(PATH, old.as_bytes()), self.put(OTHER, new.as_bytes()));
        match call {
            PathSymlink => self.call(call, &[old, old_len, root, new, new_len]),
            PathLink => self.call(call, &[root, 0, old, old_len, root, new, new_len]),
            _ => self.call(call, &[root, old, old_len, root, new, new_len]),
        }
    }

    fn vector(&mut self, len: u32) {
        self.put(IOVEC, &[BUFFER.to_le_bytes(), len.to_le_bytes()].concat());
    }

    fn write(&mut self, fd: u32, bytes: &[u8]) -> u32 {
        self.put(BUFFER, bytes);
        self.vector(bytes.len() as u32);
        self.call(FdWrite, &[u64::from(fd), u64::from(IOVEC), 1, u64::from(RESULT)])
    }

    fn read(&mut self, fd: u32) -> Result<Vec<u8>, u32> {
        self.vector(10_000);
        match self.call(FdRead, &[u64::from(fd), u64::from(IOVEC), 1, u64::from(RESULT)]) {
            0 => Ok(self.guest.memory[BUFFER as usize..][..self.result() as u32 as usize].to_vec()),
            errno => Err(errno),
        }
    }

    fn seek(&mut self, fd: u32, by: i64, whence: u64) -> Result<u64, u32> {
        match self.call(FdSeek, &[u64::from(fd), by as u64, whence, u64::from(RESULT)]) {
            0 => Ok(self.result()),
            errno => Err(errno),
        }
    }

    /// One buffer of a listing: names, and the cookie behind each.
    fn list(&mut self, fd: u32, cookie: u64, len: u32) -> Vec<(String, u64)> {
        let args = [u64::from(fd), u64::from(BUFFER), u64::from(len), cookie, u64::from(RESULT)];
        assert_eq!(self.call(FdReaddir, &args), 0);
        let mut rest = &self.guest.memory[BUFFER as usize..][..self.result() as u32 as usize];
        let mut entries = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<24>() {
            let name_len = u32::from_le_bytes(*head[16..].first_chunk().unwrap()) as usize;
            let Some(name) = tail.get(..name_len) else { break };
            let cookie = u64::from_le_bytes(*head.first_chunk().unwrap());
            entries.push((String::from_utf8(name.to_vec()).unwrap(), cookie));
            rest = &tail[name_len..];
        }
        entries
    }

    fn names(&mut self, fd: u32) -> Vec<String> {
        self.list(fd, 0, 4_096).into_iter().map(|(name, _)| name).collect()
    }

    /// Gas that a step takes.
    fn gas(&mut self, step: impl FnOnce(&mut Self)) -> u64 {
        let before = self.session.gas_used;
        step(self);
        self.session.gas_used - before
    }
}

const fn errno(errno: Errno) -> u32 {
    errno as u32
}

#[test]
fn paths_are_relative_text_within_the_directory() {
    let mut host = Host::new();
    for (path, expected) in [
        ("/a/b", Errno::Notcapable),
        ("..", Errno::Notcapable),
        ("a/../../a/b", Errno::Notcapable),
        ("", Errno::Noent),
        ("nothing", Errno::Noent),
        ("a/b\0", Errno::Inval),
        ("a/b/", Errno::Notdir),
        ("c/a", Errno::Notdir),
        (&"x".repeat(256), Errno::Nametoolong),
        (&"./".repeat(2_049), Errno::Nametoolong),
    ] {
        assert_eq!(host.open(path, 0), Err(errno(expected)), "{path:?}");
    }
    host.put(PATH, b"\xff\xfe");
    let args = [u64::from(ROOT), u64::from(PATH), 2];
    assert_eq!(host.call(PathCreateDirectory, &args), errno(Errno::Ilseq));
    assert_eq!(host.open("a/../d/.//e/../../a/b", 0), Ok(5));
}

#[test]
fn symbolic_links_stay_within_too() {
    let mut host = Host::new();
    assert_eq!(host.two(PathSymlink, "/a", "l"), errno(Errno::Notcapable));
    assert_eq!(host.two(PathSymlink, "", "l"), errno(Errno::Noent));
    assert_eq!(host.two(PathSymlink, "../../x", "d/l"), 0);
    assert_eq!(host.stat("d/l", 1), Err(errno(Errno::Notcapable)));
    assert_eq!(host.stat("d/l", 0).map(|stat| (stat[2], stat[4])), Ok((7, 7)));
    assert_eq!(host.two(PathSymlink, "../a", "d/m"), 0);
    assert_eq!(host.stat("d/m/b", 0).map(|stat| stat[4]), Ok(7));
    // Beneath `d`, the same link leads out.
    let d = host.open_directory("d");
    let inside = host.open_with(d, "m/b", 0, Rights::FD_READ, Rights::NONE);
    assert_eq!(inside, Err(errno(Errno::Notcapable)));
    host.put(PATH, b"d/m");
    let args = [u64::from(ROOT), u64::from(PATH), 3, u64::from(BUFFER), 2, u64::from(RESULT)];
    assert_eq!((host.call(PathReadlink, &args), host.result() as u32), (0, 2));
    assert_eq!(host.guest.memory[BUFFER as usize..][..3], *b"..\0");
}

#[test]
fn flags_of_opening() {
    let mut host = Host::new();
    assert_eq!(host.open("c", CREATE | EXCLUSIVE), Err(errno(Errno::Exist)));
    assert_eq!(host.open("c", DIRECTORY), Err(errno(Errno::Notdir)));
    assert_eq!(host.open("a", 0), Err(errno(Errno::Isdir)), "for writing");
    assert_eq!(host.open("new/", CREATE), Err(errno(Errno::Isdir)));
    assert_eq!(host.open("new", CREATE | DIRECTORY), Err(errno(Errno::Inval)));
    assert_eq!(host.open("c", 16), Err(errno(Errno::Inval)));
    let c = host.open("c", 0).unwrap();
    assert_eq!(host.read(c).map(|bytes| bytes.len()), Ok(6_000));
    let cut = host.open("c", TRUNCATE).unwrap();
    assert_eq!(host.seek(c, 0, 2), Ok(0));
    assert_eq!((host.write(cut, b"xy"), host.seek(c, 0, 2)), (0, Ok(2)));
}

#[test]
fn rights_only_shrink() {
    let mut host = Host::new();
    let set = |host: &mut Host, fd: u32, rights: Rights, inheriting: Rights| {
        host.call(FdFdstatSetRights, &[u64::from(fd), rights.bits(), inheriting.bits()])
    };
    let file = host.open_with(ROOT, "c", 0, Rights::FD_READ, Rights::NONE).unwrap();
    assert_eq!(host.write(file, b"x"), errno(Errno::Badf));
    assert_eq!(host.seek(file, 0, 0), Err(errno(Errno::Notcapable)));
    assert_eq!(set(&mut host, file, Rights::FILE, Rights::NONE), errno(Errno::Notcapable));
    assert_eq!(set(&mut host, file, Rights::NONE, Rights::NONE), 0);
    assert_eq!(host.read(file), Err(errno(Errno::Badf)));
    // What a directory does not pass on is not opened.
    assert_eq!(set(&mut host, ROOT, Rights::PATH_OPEN | Rights::PATH_FILESTAT_GET, Rights::FD_READ), 0);
    assert_eq!(host.open_with(ROOT, "c", 0, Rights::FD_READ, Rights::NONE), Ok(6));
    assert_eq!(host.open_with(ROOT, "c", 0, Rights::FD_WRITE, Rights::NONE), Err(errno(Errno::Notcapable)));
    assert_eq!(host.open_with(ROOT, "a", 2, Rights::NONE, Rights::FD_WRITE), Err(errno(Errno::Notcapable)));
    for flags in [CREATE, TRUNCATE] {
        assert_eq!(
            host.open_with(ROOT, "c", flags, Rights::NONE, Rights::NONE),
            Err(errno(Errno::Notcapable))
        );
    }
    assert!(host.stat("c", 0).is_ok());
    for call in [PathCreateDirectory, PathRemoveDirectory, PathUnlinkFile] {
        assert_eq!(host.at(call, "a"), errno(Errno::Notcapable), "{call}");
    }
    for call in [PathRename, PathLink, PathSymlink] {
        assert_eq!(host.two(call, "c", "x"), errno(Errno::Notcapable), "{call}");
    }
}

#[test]
fn reading_and_writing_move_the_offset() {
    let mut host = Host::new();
    let file = host.open("new", CREATE).unwrap();
    assert_eq!((host.write(file, b"hello"), host.result() as u32), (0, 5));
    assert_eq!(host.read(file), Ok(Vec::new()));
    assert_eq!(host.seek(file, -3, 1), Ok(2));
    assert_eq!(host.read(file), Ok(b"llo".to_vec()));
    assert_eq!(host.seek(file, -6, 2), Err(errno(Errno::Inval)));
    assert_eq!(host.seek(file, i64::MAX, 2), Err(errno(Errno::Overflow)));
    assert_eq!(host.seek(file, 0, 3), Err(errno(Errno::Inval)));
    // Beyond the end there are zeros once something is behind them.
    assert_eq!(host.seek(file, 2, 2), Ok(7));
    assert_eq!(host.write(file, b"!"), 0);
    assert_eq!((host.seek(file, 0, 0), host.read(file)), (Ok(0), Ok(b"hello\0\0!".to_vec())));
    // Appending ignores the offset; writing at a place does not move it.
    assert_eq!(host.call(FdFdstatSetFlags, &[u64::from(file), 1]), 0);
    assert_eq!((host.seek(file, 0, 0), host.write(file, b"?")), (Ok(0), 0));
    assert_eq!(host.seek(file, 0, 1), Ok(9));
    host.put(BUFFER, b"J");
    host.vector(1);
    let place = [u64::from(file), u64::from(IOVEC), 1, 0, u64::from(RESULT)];
    assert_eq!((host.call(FdPwrite, &place), host.seek(file, 0, 1)), (0, Ok(9)));
    assert_eq!((host.seek(file, 0, 0), host.read(file)), (Ok(0), Ok(b"Jello\0\0!?".to_vec())));
    assert_eq!(host.call(FdFdstatSetFlags, &[u64::from(file), 32]), errno(Errno::Inval));
}

#[test]
fn a_full_disk_changes_nothing() {
    let mut host = Host::new();
    let file = host.open("new", CREATE).unwrap();
    assert_eq!(host.call(FdAllocate, &[u64::from(file), 0, 20_001]), errno(Errno::Nospc));
    assert_eq!(host.call(FdAllocate, &[u64::from(file), u64::MAX, 1]), errno(Errno::Fbig));
    assert_eq!(host.call(FdFilestatSetSize, &[u64::from(file), u64::MAX]), errno(Errno::Nospc));
    assert_eq!(host.call(FdFilestatSetSize, &[u64::from(file), 20_000]), 0);
    assert_eq!((host.seek(file, 0, 2), host.write(file, b"x")), (Ok(20_000), errno(Errno::Nospc)));
    assert_eq!(host.seek(file, 0, 1), Ok(20_000));
    assert_eq!(host.two(PathSymlink, "x", "y"), errno(Errno::Nospc), "its target takes a byte");
    // Twelve entries, one of which is there.
    for n in 0..11 {
        assert_eq!(host.at(PathCreateDirectory, &format!("n{n}")), 0);
    }
    assert_eq!(host.at(PathCreateDirectory, "more"), errno(Errno::Nospc));
    assert_eq!(host.two(PathLink, "c", "more"), errno(Errno::Nospc));
    assert_eq!(host.two(PathRename, "c", "more"), errno(Errno::Nospc), "a name of the image is no room");
    assert_eq!(host.two(PathRename, "n1", "more"), 0);
    assert_eq!(host.at(PathRemoveDirectory, "more"), 0);
    assert_eq!(host.at(PathCreateDirectory, "more"), 0);
}

#[test]
fn listings_are_sorted_and_survive_removal() {
    let mut host = Host::new();
    for name in ["zz", "b", "n1", "n0", "n2"] {
        assert_eq!(host.at(PathCreateDirectory, name), 0);
    }
    let root = host.open_directory(".");
    assert_eq!(host.names(root), [".", "..", "a", "b", "c", "d", "n0", "n1", "n2", "zz"]);
    // As `rm -r` does it: through a small buffer, removing what was listed.
    let (mut cookie, mut seen) = (0, Vec::new());
    loop {
        let entries = host.list(root, cookie, 60);
        let Some((_, last)) = entries.last().cloned() else { break };
        cookie = last;
        for (name, _) in entries {
            if name.starts_with('n') || name == "zz" {
                assert_eq!(host.at(PathRemoveDirectory, &name), 0);
            }
            seen.push(name);
        }
    }
    assert_eq!(seen, [".", "..", "a", "b", "c", "d", "n0", "n1", "n2", "zz"]);
    assert_eq!(host.names(root), [".", "..", "a", "b", "c", "d"]);
    // An entry that does not fit is cut, so that the buffer is full.
    host.list(root, 0, 60);
    assert_eq!(host.result() as u32, 60);
    assert!(host.list(root, 0, 0).is_empty());
}

#[test]
fn renaming_replaces_what_is_empty() {
    let mut host = Host::new();
    assert_eq!(host.two(PathRename, "d", "d/e/x"), errno(Errno::Inval));
    assert_eq!(host.two(PathRename, "d", "a"), errno(Errno::Notempty));
    assert_eq!(host.two(PathRename, "c", "a"), errno(Errno::Isdir));
    assert_eq!(host.two(PathRename, "a", "c"), errno(Errno::Notdir));
    assert_eq!(host.two(PathRename, "c", "d/e/f"), 0);
    assert_eq!(host.stat("d/e/f", 0).map(|stat| stat[4]), Ok(6_000));
    assert_eq!(host.stat("c", 0), Err(errno(Errno::Noent)));
    assert_eq!(host.two(PathRename, ".", "x"), errno(Errno::Busy));
    // Two names of one file: nothing to do.
    assert_eq!((host.two(PathLink, "d/e/f", "g"), host.two(PathRename, "g", "d/e/f")), (0, 0));
    assert_eq!(host.stat("g", 0).map(|stat| stat[3]), Ok(2));
}

#[test]
fn streams_are_no_files_and_can_be_moved() {
    let mut host = Host::new();
    for call in [FdSeek, FdTell, FdPread, FdPwrite, FdAdvise] {
        assert_eq!(host.call(call, &[1, 0, 0, 0, 0]), errno(Errno::Spipe), "{call}");
    }
    let file = host.open("new", CREATE).unwrap();
    assert_eq!(host.call(FdRenumber, &[1, u64::from(file)]), 0);
    assert_eq!(host.write(file, b"to standard output"), 0);
    assert_eq!(host.session.world.stdout, b"to standard output");
    assert_eq!(host.write(1, b"x"), errno(Errno::Badf));
    assert_eq!(host.call(FdRenumber, &[u64::from(file), 1]), errno(Errno::Badf), "1 is not open");
    assert_eq!(host.open("c", 0), Ok(1), "the lowest free number");
    assert_eq!(host.read(0), Ok(b"standard input".to_vec()));
}

#[test]
fn a_descriptor_holds_a_file_that_has_no_name() {
    let mut host = Host::new();
    let file = host.open("new", CREATE).unwrap();
    assert_eq!((host.write(file, b"kept"), host.at(PathUnlinkFile, "new")), (0, 0));
    assert_eq!((host.seek(file, 0, 0), host.read(file)), (Ok(0), Ok(b"kept".to_vec())));
    assert_eq!(host.call(FdClose, &[u64::from(file)]), 0);
    assert_eq!(host.call(FdClose, &[u64::from(file)]), errno(Errno::Badf));
    host.session.world.files.check();
}

#[test]
fn times_are_the_logical_clock_or_as_set() {
    let mut host = Host::new();
    let start = 1_000_000_000;
    assert_eq!(host.stat("c", 0).unwrap()[5..], [start; 3]);
    let file = host.open("new", CREATE).unwrap();
    let made = host.stat("new", 0).unwrap()[6];
    assert!(made > start);
    assert_eq!(host.write(file, b"x"), 0);
    assert!(host.stat("new", 0).unwrap()[6] > made);
    let set = |host: &mut Host, flags| host.call(FdFilestatSetTimes, &[u64::from(file), 5, 6, flags]);
    assert_eq!((set(&mut host, 5), &host.stat("new", 0).unwrap()[5..7]), (0, &[5, 6][..]));
    for flags in [3, 12, 16] {
        assert_eq!(set(&mut host, flags), errno(Errno::Inval));
    }
    assert_eq!(set(&mut host, 2), 0);
    assert!(host.stat("new", 0).unwrap()[5] > made);
}

#[test]
fn work_is_paid() {
    let mut host = Host::new();
    let short = host.gas(|host| assert!(host.stat("a/b", 0).is_ok()));
    let long = host.gas(|host| assert!(host.stat("a/../a/../a/../a/../a/b", 0).is_ok()));
    assert!(long >= short + 8 * 200, "{long} beside {short}: each name is a step");
    let file = host.open("c", 0).unwrap();
    let first = host.gas(|host| assert_eq!(host.write(file, b"x"), 0));
    let second = host.gas(|host| assert_eq!(host.write(file, b"x"), 0));
    assert_eq!(first, second + 6_000, "the first change copies what the image has");
    let grown = host.gas(|host| assert_eq!(host.call(FdFilestatSetSize, &[u64::from(file), 9_000]), 0));
    let kept = host.gas(|host| assert_eq!(host.call(FdFilestatSetSize, &[u64::from(file), 9_000]), 0));
    assert_eq!(grown, kept + 3_000);
    let root = host.open_directory(".");
    let all = host.gas(|host| drop(host.list(root, 0, 4_096)));
    let one = host.gas(|host| drop(host.list(root, 0, 25)));
    assert!(all > one + 4 * 200, "{all} beside {one}: each entry is paid");
}

#[test]
fn polls_of_files_are_ready() {
    let mut host = Host::new();
    let file = host.open("a/b", 0).unwrap();
    for (index, (tag, fd)) in [(1u8, file), (2, file), (1, ROOT), (1, 77)].into_iter().enumerate() {
        let at = BUFFER + index as u32 * 48;
        host.put(at, &[index as u8]);
        host.put(at + 8, &[tag]);
        host.put(at + 16, &fd.to_le_bytes());
    }
    let events = 40_000;
    assert_eq!(host.call(PollOneoff, &[u64::from(BUFFER), events, 4, u64::from(RESULT)]), 0);
    assert_eq!(host.result() as u32, 4);
    let event = |index: usize| &host.guest.memory[events as usize + index * 32..][..32];
    assert_eq!((event(0)[8], event(0)[10], event(0)[16]), (0, 1, 7), "seven bytes to read");
    assert_eq!((event(1)[8], event(1)[10]), (0, 2));
    assert_eq!((event(2)[8], event(3)[8]), (8, 8));
}
