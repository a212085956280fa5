//! The imports `nonos_1`: digests, signatures, gas, checkpoints, and the mesh with its recording.

use std::collections::VecDeque;

use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    Execution, HostCall, HostCallSet, Inbound, Loaded, MeshPolicy, MeshPort, Policy, PortError, ReplayError,
    Status, TrapCode, replay,
};
use nonos_identity::{Domain, NetworkId, SigningKey, WideDigest};

use crate::support::{command, import, invocation, load, policy, run, run_wat};

/// A command that ends with the errno of a body as its code.
fn exits_with(calls: &[HostCall], body: &str) -> String {
    let imports: String = calls.iter().copied().chain([HostCall::ProcExit]).map(import).collect();
    command(&imports, &format!("(call $proc_exit {body})"))
}

/// Writes a length of bytes at an address to standard output.
const WRITE: &str = "(i32.store (i32.const 8) (i32.const 1024)) (i32.store (i32.const 12) (i32.const 64))
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))";

fn data(at: u32, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!(r#"(data (i32.const {at}) "{hex}")"#)
}

#[test]
fn sha3_512_is_the_published_function() {
    let imports = [HostCall::Sha3512, HostCall::FdWrite].map(import).concat();
    let body = format!("(drop (call $sha3_512 (i32.const 512) (i32.const 3) (i32.const 1024))) {WRITE}");
    let wat =
        command(&imports, &body).replace("(func (export", &format!("{} (func (export", data(512, b"abc")));
    let execution = run_wat(&wat, b"");
    assert_eq!(execution.output, WideDigest::of_bytes(b"abc").as_bytes());
    assert!(execution.host_calls.contains(HostCall::Sha3512));
}

#[test]
fn ed25519_verify_tells_true_from_false() {
    const D: Domain = Domain::new("nonos/test/signature/v1");
    let key = SigningKey::from_seed(&[7; 32]);
    let network = NetworkId::from_name("n");
    let signature = key.sign(D, &network, b"text");
    let message = [D.as_bytes(), network.as_bytes(), b"text"].concat();
    let status = |key: &[u8; 32], message: &[u8]| {
        let body = format!(
            "(call $ed25519_verify (i32.const 512) (i32.const 1024) (i32.const {}) (i32.const 640))",
            message.len()
        );
        let data = [data(512, key), data(640, signature.as_bytes()), data(1024, message)].concat();
        let wat = exits_with(&[HostCall::Ed25519Verify], &body);
        run_wat(&wat.replace("(func (export", &format!("{data} (func (export")), b"").status
    };
    let public = *key.public().as_bytes();
    assert_eq!(status(&public, &message), Status::Exit(0));
    assert_eq!(status(&public, b"other"), Status::Exit(2));
    // The identity point under which every message of a careless verifier passes.
    let mut small_order = [0; 32];
    small_order[0] = 1;
    assert_eq!(status(&small_order, &message), Status::Exit(28));
}

#[test]
fn pointers_out_of_memory_end_the_run() {
    let end = "(i32.const 65535)";
    for body in [
        format!("(call $sha3_512 {end} (i32.const 2) (i32.const 0))"),
        format!("(call $sha3_512 (i32.const 0) (i32.const 1) {end})"),
        format!("(call $ed25519_verify {end} (i32.const 0) (i32.const 0) (i32.const 0))"),
        format!("(call $mesh_send {end} (i32.const 9) (i32.const 0) (i32.const 0))"),
        format!("(call $gas_left {end})"),
    ] {
        let calls = [HostCall::Sha3512, HostCall::Ed25519Verify, HostCall::MeshSend, HostCall::GasLeft];
        let execution = run_wat(&exits_with(&calls, &body), b"");
        assert_eq!(execution.status, Status::Trap(TrapCode::BadPointer), "{body}");
    }
}

/// Hashing four gigabytes for the price of a call is not on offer.
#[test]
fn work_is_paid_before_it_is_done() {
    let body = "(call $sha3_512 (i32.const 0) (i32.const -1) (i32.const 0))";
    let execution = run_wat(&exits_with(&[HostCall::Sha3512], body), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    let body = "(loop $l (drop (call $checkpoint)) (br $l))";
    let execution = run_wat(&command(&import(HostCall::Checkpoint), body), b"");
    assert_eq!(execution.status, Status::Trap(TrapCode::OutOfGas));
    assert!(execution.checkpoints.len() < 100, "{}", execution.checkpoints.len());
}

#[test]
fn a_checkpoint_can_be_asked_for() {
    let body = "(drop (call $checkpoint)) (i32.store (i32.const 0) (i32.const 1)) (drop (call $checkpoint))";
    let execution = run_wat(&command(&import(HostCall::Checkpoint), body), b"");
    assert_eq!(execution.status, Status::Exit(0));
    assert_eq!(execution.checkpoints.len(), 4, "beginning, two, end");
}

#[test]
fn gas_left_is_what_is_left() {
    let body = "(drop (call $gas_left (i32.const 1024)))";
    let imports = [HostCall::GasLeft, HostCall::FdWrite].map(import).concat();
    let execution = run_wat(&command(&imports, &format!("{body} {WRITE}")), b"");
    let left = u64::from_le_bytes(*execution.output.first_chunk().unwrap());
    assert!(left < policy().gas_limit && left > policy().gas_limit - 1_000, "{left}");
}

/// Sends to `echo`, receives, writes what came; ends with the errno of the last call.
const CONVERSE: &str = "
    (drop (call $mesh_send (i32.const 512) (i32.const 4) (i32.const 516) (i32.const 5)))
    (local.set 0 (call $mesh_receive (i32.const 1024) (i32.const 64) (i32.const 16)))
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.load (i32.const 16)))
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 0)))
    (call $proc_exit (local.get 0))";

fn converse() -> String {
    let calls = [HostCall::MeshSend, HostCall::MeshReceive, HostCall::FdWrite, HostCall::ProcExit];
    let imports = calls.map(import).concat();
    command(&imports, &format!("(local i32) {CONVERSE}"))
        .replace("(func (export", &format!("{} (func (export", data(512, b"echohello")))
}

fn meshed() -> Policy {
    let mesh = MeshPolicy { services: ["echo".to_owned()].into(), bytes_max: 100, messages_max: 4 };
    Policy { mesh, ..policy() }
}

/// Answers every message with the same in capitals.
#[derive(Default)]
struct Echo(VecDeque<Vec<u8>>);

impl MeshPort for Echo {
    fn send(&mut self, service: &str, message: &[u8]) -> Result<(), PortError> {
        assert_eq!(service, "echo", "the policy names no other service");
        self.0.push_back(message.to_ascii_uppercase());
        Ok(())
    }

    fn receive(&mut self, _: usize) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.0.pop_front())
    }
}

fn run_with(loaded: &Loaded, port: impl MeshPort + 'static) -> Execution {
    loaded.run_with(&invocation(b""), &MemoryNonceStore::default(), Box::new(port)).unwrap()
}

#[test]
fn what_the_mesh_says_is_recorded_and_replayed() {
    let loaded = load(&converse(), meshed());
    let execution = run_with(&loaded, Echo::default());
    assert_eq!(execution.status, Status::Exit(0));
    assert_eq!(execution.output, b"HELLO");
    assert_eq!(execution.inbound, [Inbound::Sent, Inbound::Message(b"HELLO".to_vec())]);
    assert_eq!(execution.exec_hash, execution.compute_hash());
    replay(&loaded, &invocation(b""), &execution).unwrap();

    // Another answer is another run, and a record of another answer does not fit this one.
    let mut forged = execution.clone();
    forged.inbound[1] = Inbound::Message(b"JELLO".to_vec());
    assert_ne!(forged.exec_hash, forged.compute_hash());
    forged.exec_hash = forged.compute_hash();
    let diverged = replay(&loaded, &invocation(b""), &forged).unwrap_err();
    assert!(matches!(diverged, ReplayError::Diverged { checkpoint: 1 }), "{diverged}");
}

#[test]
fn without_a_mesh_the_guest_is_told_so() {
    let loaded = load(&converse(), meshed());
    let execution = run(&loaded, &invocation(b"")).unwrap();
    assert_eq!(execution.status, Status::Exit(58));
    assert_eq!(execution.inbound, [Inbound::Unsupported, Inbound::Unsupported]);
    replay(&loaded, &invocation(b""), &execution).unwrap();
}

#[test]
fn only_named_services_are_reached() {
    let nobody =
        Policy { mesh: MeshPolicy { services: ["other".to_owned()].into(), ..meshed().mesh }, ..policy() };
    let body = "(call $mesh_send (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 5))";
    let execution = run_with(&load(&exits_with(&[HostCall::MeshSend], body), nobody), Echo::default());
    assert_eq!(execution.status, Status::Exit(76));
    assert_eq!(execution.inbound, []);
    let denied = Policy { host_calls: HostCallSet::COMMAND, ..meshed() };
    let execution = run_with(&load(&converse(), denied), Echo::default());
    assert_eq!(execution.status, Status::HostDenied(HostCall::MeshSend as u8));
}

#[test]
fn bytes_and_messages_are_limited() {
    let short = Policy { mesh: MeshPolicy { bytes_max: 9, ..meshed().mesh }, ..policy() };
    assert_eq!(run_with(&load(&converse(), short), Echo::default()).status, Status::Quota);
    let few = Policy { mesh: MeshPolicy { messages_max: 1, ..meshed().mesh }, ..policy() };
    assert_eq!(run_with(&load(&converse(), few), Echo::default()).status, Status::Quota);
}

/// A message longer than the guest's buffer waits for a larger one.
#[test]
fn a_message_that_does_not_fit_is_kept() {
    let imports = [HostCall::MeshSend, HostCall::MeshReceive, HostCall::ProcExit].map(import).concat();
    let body = "
      (drop (call $mesh_send (i32.const 512) (i32.const 4) (i32.const 516) (i32.const 5)))
      (if (i32.ne (call $mesh_receive (i32.const 1024) (i32.const 4) (i32.const 16)) (i32.const 61)) (then unreachable))
      (if (i32.ne (i32.load (i32.const 16)) (i32.const 5)) (then unreachable))
      (if (call $mesh_receive (i32.const 1024) (i32.const 5) (i32.const 16)) (then unreachable))
      (call $proc_exit (call $mesh_receive (i32.const 1024) (i32.const 5) (i32.const 16)))";
    let wat = command(&imports, body)
        .replace("(func (export", &format!("{} (func (export", data(512, b"echohello")));
    let execution = run_with(&load(&wat, meshed()), Echo::default());
    assert_eq!(execution.status, Status::Exit(6), "the second time there is nothing");
    let message = Inbound::Message(b"HELLO".to_vec());
    assert_eq!(execution.inbound, [Inbound::Sent, message, Inbound::Nothing]);
}
