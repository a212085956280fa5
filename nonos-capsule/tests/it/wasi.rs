//! Files of a run: what the guest sees, what is committed to, what comes back.

use nonos_capsule::domains::INVOCATION;
use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    Execution, HostCall, HostCallSet, Image, Invocation, Policy, Preopen, RunError, Status, replay,
};
use nonos_identity::WideDigest;

use crate::support::{import, invocation, load, policy, run};

fn image(files: &[(&str, &str)]) -> Image {
    Image::from_files(files.iter().map(|(path, bytes)| (*path, bytes.as_bytes()))).unwrap()
}

fn preopen(path: &str, image: Image) -> Preopen {
    Preopen { path: path.to_owned(), image }
}

fn mounting(images: &[(&str, Image)]) -> Invocation {
    let preopens = images.iter().map(|(path, image)| preopen(path, image.clone())).collect();
    Invocation { preopens, ..invocation(b"") }
}

/// A command whose calls exit with their errno when they fail. The paths `in`, `out` and `d` are
/// at 1024, 1032 and 1040; a vector of `len` bytes from 2048 on is at 16.
fn files(calls: &[HostCall], body: &str) -> String {
    let imports: String = calls.iter().copied().chain([HostCall::ProcExit]).map(import).collect();
    format!(
        r#"(module {imports} (memory (export "memory") 4)
          (data (i32.const 1024) "in") (data (i32.const 1032) "out") (data (i32.const 1040) "d")
          (func $ok (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))
          (func $open_in (call $ok (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 2)
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))))
          (func $create_out (call $ok (call $path_open (i32.const 3) (i32.const 0) (i32.const 1032) (i32.const 3)
            (i32.const 1) (i64.const 0x400040) (i64.const 0) (i32.const 0) (i32.const 4))))
          (func $vector (param $len i32)
            (i32.store (i32.const 16) (i32.const 2048)) (i32.store (i32.const 20) (local.get $len)))
          (func (export "_start") {body}))"#
    )
}

const COPY: [HostCall; 3] = [HostCall::PathOpen, HostCall::FdRead, HostCall::FdWrite];

/// Copies `in` to `out`.
fn copy() -> String {
    files(
        &COPY,
        "(call $open_in) (call $vector (i32.const 1000))
         (call $ok (call $fd_read (i32.load (i32.const 0)) (i32.const 16) (i32.const 1) (i32.const 8)))
         (call $create_out) (call $vector (i32.load (i32.const 8)))
         (call $ok (call $fd_write (i32.load (i32.const 4)) (i32.const 16) (i32.const 1) (i32.const 8)))",
    )
}

fn status(wat: &str, policy: Policy, images: &[(&str, Image)]) -> Status {
    run(&load(wat, policy), &mounting(images)).unwrap().status
}

#[test]
fn files_go_in_and_come_back() {
    let loaded = load(&copy(), policy());
    let start = image(&[("in", "some words"), ("d/other", "x")]);
    let invocation = mounting(&[("/", start.clone())]);
    let nonces = MemoryNonceStore::default();
    let (execution, images) = loaded.run_with_files(&invocation, &nonces).unwrap();
    assert_eq!(execution.status, Status::Exit(0));
    assert_eq!(images, [image(&[("in", "some words"), ("out", "some words"), ("d/other", "x")])]);
    assert_eq!(start.read("out"), None, "an image does not change");
    assert!(matches!(loaded.run_with_files(&invocation, &nonces), Err(RunError::NonceUsed)));
    replay(&loaded, &invocation, &execution).unwrap();
    // What came back is a start for another run.
    let next = mounting(&[("/", images[0].clone())]);
    assert_eq!(run(&loaded, &next).unwrap().status, Status::Exit(0));
}

#[test]
fn without_a_mounted_directory_there_are_no_files() {
    assert_eq!(status(&copy(), policy(), &[]), Status::Exit(8));
    assert_eq!(status(&copy(), policy(), &[("/", image(&[]))]), Status::Exit(44));
    let only_command = Policy { host_calls: HostCallSet::COMMAND, ..policy() };
    let mounted = [("/", image(&[("in", "x")]))];
    assert_eq!(status(&copy(), only_command, &mounted), Status::HostDenied(HostCall::PathOpen as u8));
    let with_files = Policy { host_calls: HostCallSet::FILES, ..policy() };
    assert_eq!(status(&copy(), with_files, &mounted), Status::Exit(0));
}

#[test]
fn sets_of_host_calls() {
    let others = [
        HostCall::ProcRaise,
        HostCall::SockAccept,
        HostCall::SockRecv,
        HostCall::SockSend,
        HostCall::SockShutdown,
        HostCall::MeshSend,
        HostCall::MeshReceive,
    ];
    let all = HostCallSet::FILES.iter().chain(others).collect::<HostCallSet>();
    assert_eq!(all, HostCallSet::ALL);
    assert!(HostCallSet::COMMAND.is_subset(HostCallSet::FILES));
    assert_eq!(HostCallSet::FILES.iter().count(), 47);
}

#[test]
fn images_enter_the_digest_and_the_chain() {
    let bare = invocation(b"x");
    let clock = bare.clock.as_secs().to_le_bytes();
    let head = [&bare.caller.as_bytes()[..], bare.network.as_bytes(), &clock, &[0; 16]].concat();
    assert_eq!(bare.digest(), WideDigest::of(INVOCATION, &[&head, b"x"]), "no preopen, no trace of one");
    let loaded = load(&copy(), policy());
    let invocations = [
        mounting(&[("/", image(&[("in", "1")]))]),
        mounting(&[("/", image(&[("in", "2")]))]),
        mounting(&[("/", image(&[("in", "1"), ("unused", "")]))]),
        mounting(&[("/a", image(&[("in", "1")]))]),
        mounting(&[("/", image(&[("in", "1")])), ("/b", Image::default())]),
    ];
    let executions: Vec<Execution> =
        invocations.iter().map(|invocation| run(&loaded, invocation).unwrap()).collect();
    for (index, execution) in executions.iter().enumerate() {
        assert_eq!(execution.status, Status::Exit(0));
        for other in &executions[..index] {
            assert_ne!(execution.input_digest, other.input_digest);
            assert!(execution.checkpoints.iter().zip(&other.checkpoints).all(|(a, b)| a != b));
        }
    }
}

#[test]
fn a_full_disk_is_an_errno_and_the_run_goes_on() {
    let mounted = [("/", image(&[("in", "some words")]))];
    let of = |fs_max_bytes, fs_max_files| Policy { fs_max_bytes, fs_max_files, ..policy() };
    assert_eq!(status(&copy(), of(10, 1), &mounted), Status::Exit(0));
    assert_eq!(status(&copy(), of(9, 1), &mounted), Status::Exit(51));
    assert_eq!(status(&copy(), of(10, 0), &mounted), Status::Exit(51));
    // A file as large as numbers go takes nothing before it is refused.
    let huge = files(
        &[HostCall::PathOpen, HostCall::FdFilestatSetSize],
        "(call $create_out)
         (call $ok (call $fd_filestat_set_size (i32.load (i32.const 4)) (i64.const 0x7fffffffffffffff)))",
    );
    assert_eq!(status(&huge, of(1 << 20, 1), &mounted), Status::Exit(51));
}

/// Every directory made costs gas, files or both, so a loop of it ends.
#[test]
fn making_things_without_end_runs_out_of_gas() {
    let mkdir =
        "(loop $again (drop (call $path_create_directory (i32.const 3) (i32.const 1040) (i32.const 1)))
         (drop (call $path_remove_directory (i32.const 3) (i32.const 1040) (i32.const 1))) (br $again))";
    let calls = [HostCall::PathOpen, HostCall::PathCreateDirectory, HostCall::PathRemoveDirectory];
    let execution =
        run(&load(&files(&calls, mkdir), policy()), &mounting(&[("/", Image::default())])).unwrap();
    assert_eq!(execution.status, Status::Trap(nonos_capsule::TrapCode::OutOfGas));
    assert_eq!(execution.gas_used, policy().gas_limit);
}

#[test]
fn a_hostile_pointer_ends_the_run() {
    for (at, len) in [(0x3ffff, 2), (0x7fff_ffff, 1), (-1, 1)] {
        let body = format!(
            "(call $ok (call $path_create_directory (i32.const 3) (i32.const {at}) (i32.const {len})))"
        );
        let wat = files(&[HostCall::PathOpen, HostCall::PathCreateDirectory], &body);
        let expected = Status::Trap(nonos_capsule::TrapCode::BadPointer);
        assert_eq!(status(&wat, policy(), &[("/", Image::default())]), expected);
    }
}

#[test]
fn preopens_have_limits() {
    let loaded = load(&copy(), policy());
    let refused = |images: &[(&str, Image)]| {
        assert!(matches!(run(&loaded, &mounting(images)), Err(RunError::Invocation(_))));
    };
    refused(&[("/", Image::default()), ("/", Image::default())]);
    refused(&[("", Image::default())]);
    refused(&[("/\0", Image::default())]);
    let names: Vec<String> = (0..=Invocation::MAX_PREOPENS).map(|n| format!("/{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), Image::default())).collect();
    refused(&many);
    assert!(run(&loaded, &mounting(&many[1..])).is_ok());
    let files: Vec<_> = (0..40_000).map(|n| (n.to_string(), &b""[..])).collect();
    let large = Image::from_files(files).unwrap();
    refused(&[("/a", large.clone()), ("/b", large)]);
}
