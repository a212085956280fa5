//! Packs a module into a capsule, signs it, checks it, runs it, and refuses two things: the same
//! order a second time, and the capsule with one byte changed.
//!
//! Run with `cargo run -p nonos-examples --bin capsule_hello`. It prints:
//! ```text
//! packed    f8d1b746047dd5ce..., 1239 bytes
//! output    hello, mesh
//! status    exit 0, 432 gas, 1 page
//! exec_hash 18febba1b7f16fe3...
//! replayed  2 checkpoints agree
//! refused   the same order again: nonce was used before
//! refused   one byte changed: payload does not match its signed digest
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::Duration;

use nonos_capsule::{
    Capsule, CheckSigned as _, Config, FileNonceStore, HostCall, HostCallSet, Invocation, Manifest, Policy,
    RunError, Runtime, SignaturePolicy, SignerRole, VerifyError, replay, wasm_from_wat_or_wasm,
};
use nonos_identity::{Identity, NetworkId, Role, Timestamp};

/// Writes one line to standard output: an iovec at 0, the text at 16.
const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello, mesh\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 12))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn main() -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from_secs(1_800_000_000);
    let mesh = NetworkId::from_name("example");
    let author = Identity::from_seed(&[7; 64]);

    // ANCHOR: pack
    // The policy says what a run may use; the author signs it together with the module.
    let policy = Policy {
        gas_limit: 1_000_000,
        memory_pages_max: 1,
        host_calls: HostCallSet::of(&[HostCall::FdWrite]),
        ..Policy::default()
    };
    let module = wasm_from_wat_or_wasm(HELLO.as_bytes())?;
    let mut capsule = Capsule::pack(Manifest::new("hello", "1.0.0"), policy, module)?;
    let year = Duration::from_secs(365 * 24 * 3600);
    capsule.sign(SignerRole::Author, &author.signing_key(Role::Author, 0), &mesh, now, year)?;
    let file = capsule.to_bytes();
    // ANCHOR_END: pack
    println!("packed    {:.16}..., {} bytes", capsule.id().to_string(), file.len());

    // ANCHOR: run
    // Whoever receives the file can do nothing with it before its signatures are checked.
    let capsule = Capsule::parse(&file)?.check_signed(&SignaturePolicy::new(mesh), now)?;
    let runtime = Runtime::new(Config::default())?;
    let loaded = runtime.load(&capsule, &Policy::default())?;

    // The nonce is the order's number. It is spent, durably, before the first instruction.
    let folder = std::env::temp_dir().join(format!("nonos-capsule-hello-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let nonces = FileNonceStore::open(folder.join("nonces.log"))?;
    let order = Invocation::new(author.node_id(), [1; 32], now, mesh);
    let execution = loaded.run(&order, &nonces)?;
    print!("output    {}", String::from_utf8_lossy(&execution.output));
    println!("status    {}, {} gas, {} page", execution.status, execution.gas_used, execution.peak_pages);
    println!("exec_hash {:.16}...", execution.exec_hash.to_string());
    // Anybody who has capsule and order can run it again and compare every checkpoint.
    replay(&loaded, &order, &execution)?;
    println!("replayed  {} checkpoints agree", execution.checkpoints.len());
    // ANCHOR_END: run

    // ANCHOR: refusal
    match loaded.run(&order, &nonces) {
        Err(error @ RunError::NonceUsed) => println!("refused   the same order again: {error}"),
        other => return Err(format!("a spent nonce ran again: {other:?}").into()),
    }
    let mut tampered = file;
    let text =
        tampered.windows(6).position(|bytes| bytes == b"hello,").ok_or("the text is in the payload")?;
    if let Some(byte) = tampered.get_mut(text) {
        *byte = b'j';
    }
    match Capsule::parse(&tampered)?.check_signed(&SignaturePolicy::new(mesh), now) {
        Err(error @ VerifyError::Payload) => println!("refused   one byte changed: {error}"),
        other => return Err(format!("a tampered capsule was not refused: {other:?}").into()),
    }
    // ANCHOR_END: refusal
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
