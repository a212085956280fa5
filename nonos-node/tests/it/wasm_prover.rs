//! The prover as a WASM module: hostile modules, and the real one where it was built.
#![expect(clippy::print_stdout, reason = "the times of a real proof are read by a person")]

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nonos_identity::{Digest, Identity};
use nonos_node::{
    Config, ModuleFault, Node, ProverModule, StartError, WasmLimits, WasmProver, WasmProverError,
};
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeyCache, KeyError, KeySet};
use nonos_zk::testing::{Run, check_prover};
use nonos_zk::{Profile, Proof, ProveError, Prover, Verifier as _};

fn cache() -> KeyCache {
    KeyCache::open_or_create(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a directory")
}

fn keys(profile: Profile) -> KeySet {
    cache().dev_keys(profile).expect("a setup").allow_insecure_dev()
}

fn lite() -> KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| keys(Profile::Lite)).clone()
}

/// A native proof, and a seed that makes no other.
fn proven() -> &'static (Run, Proof) {
    static PROVEN: OnceLock<(Run, Proof)> = OnceLock::new();
    PROVEN.get_or_init(|| {
        let run = Run::honest(6, 3, 2);
        let prover = Groth16Prover::new(lite()).expect("allowed");
        let proof = prover.prove(&run.statement, &run.witness, [9; 32]).expect("an honest run");
        (run, proof)
    })
}

/// A module with the exports of a prover, in pieces.
struct Wat<'a> {
    /// Before everything: imports.
    head: &'a str,
    /// Bodies of functions.
    input: &'a str,
    load: &'a str,
    prove: &'a str,
    output: &'a str,
    output_len: &'a str,
    /// Behind everything: globals, data, a start function.
    tail: &'a str,
}

/// Takes everything, and answers with what its data says.
const CALM: Wat<'static> = Wat {
    head: "",
    input: "i32.const 65536",
    load: "i32.const 0",
    prove: "i32.const 0",
    output: "i32.const 1024",
    output_len: "i32.const 128",
    tail: "",
};

impl Wat<'_> {
    fn wasm(&self) -> Vec<u8> {
        let Self { head, input, load, prove, output, output_len, tail } = self;
        let text = format!(
            r#"(module {head}
                (memory (export "memory") 128)
                (func (export "input") (param i32) (result i32) {input})
                (func (export "load") (result i32) {load})
                (func (export "prove") (result i32) {prove})
                (func (export "output") (result i32) {output})
                (func (export "output_len") (result i32) {output_len})
                {tail})"#
        );
        wat::parse_str(text).expect("valid text")
    }

    fn prover(&self, limits: WasmLimits) -> Result<WasmProver, WasmProverError> {
        let wasm = self.wasm();
        WasmProver::new(&wasm, &Digest::of_bytes(&wasm), lite(), limits)
    }

    /// What it makes of an honest run.
    fn prove(&self, limits: WasmLimits) -> Result<Proof, String> {
        ask(&self.prover(limits).expect("a module that loads"))
    }
}

fn ask(prover: &WasmProver) -> Result<Proof, String> {
    let (run, _) = proven();
    match prover.prove(&run.statement, &run.witness, [9; 32]) {
        Ok(proof) => Ok(proof),
        Err(ProveError::Engine(message)) => Err(message),
        Err(other) => panic!("not the engine's fault: {other}"),
    }
}

/// Data of a module: the bytes as text of WAT, at the address that [`CALM`] answers with.
fn data(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const 1024) \"{text}\")")
}

/// Short enough for a test, long enough for a busy machine to start a call in.
fn hurried() -> WasmLimits {
    WasmLimits { call_time_max: Duration::from_millis(300), ..WasmLimits::default() }
}

#[test]
fn a_module_of_another_digest_is_refused() {
    let wasm = CALM.wasm();
    let pinned = Digest::of_bytes(b"another module");
    let found = Digest::of_bytes(&wasm);
    match WasmProver::new(&wasm, &pinned, lite(), WasmLimits::default()) {
        Err(WasmProverError::Digest { pinned: said, found: was }) => assert_eq!((said, was), (pinned, found)),
        other => panic!("{other:?}"),
    }
    // The same from a file, through the settings of a node.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prover.wasm");
    std::fs::write(&path, &wasm).expect("a file");
    let open = |digest| WasmProver::open(&path, digest, lite(), WasmLimits::default());
    assert!(matches!(open(&pinned), Err(WasmProverError::Digest { .. })));
    open(&found).expect("the module that is pinned");
    std::fs::write(&path, vec![0; WasmProver::MODULE_BYTES_MAX + 1]).expect("a file");
    assert!(matches!(open(&found), Err(WasmProverError::TooLong { .. })));
    std::fs::remove_file(&path).expect("a file");
    assert!(matches!(open(&found), Err(WasmProverError::Io { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_with_another_module_than_the_one_pinned() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("prover.wasm");
    std::fs::write(&path, CALM.wasm()).expect("a file");
    let mut config = Config {
        profile: Profile::Lite,
        allow_insecure_dev_keys: true,
        key_cache: Some(env!("CARGO_TARGET_TMPDIR").into()),
        wasm_prover: Some(ProverModule { path, digest: Digest::of_bytes(b"another module") }),
        ..Config::default()
    };
    config.roles.executor = true;
    let node = Node::builder(config, Identity::from_seed(&[1; 64])).data_dir(dir.path().join("node"));
    match node.start().await {
        Err(StartError::ProverModule(WasmProverError::Digest { .. })) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("started"),
    }
}

#[test]
fn a_module_that_imports_is_refused() {
    let wat = Wat { head: r#"(import "env" "clock" (func (result i64)))"#, ..CALM };
    match wat.prover(WasmLimits::default()) {
        Err(WasmProverError::Import { module, name }) => assert_eq!((&*module, &*name), ("env", "clock")),
        other => panic!("{other:?}"),
    }
    let wat = Wat { head: r#"(import "env" "table" (table 1 funcref))"#, ..CALM };
    assert!(matches!(wat.prover(WasmLimits::default()), Err(WasmProverError::Import { .. })));
}

#[test]
fn what_is_no_prover_is_refused_before_it_runs() {
    let new = |wasm: &[u8]| WasmProver::new(wasm, &Digest::of_bytes(wasm), lite(), WasmLimits::default());
    assert!(matches!(new(b"\0asm\x01\0\0\0\xff"), Err(WasmProverError::Invalid(_))));
    assert!(matches!(new(b"(module)"), Err(WasmProverError::Invalid(_))), "text is no module");
    assert!(matches!(new(b"\0asm\x01\0\0\0"), Err(WasmProverError::Export("memory"))));
    let mute = wat::parse_str(r#"(module (memory (export "memory") 1))"#).expect("valid text");
    assert!(matches!(new(&mute), Err(WasmProverError::Export("input"))));
    let odd = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "input") (param i64) (result i32) i32.const 8))"#,
    );
    assert!(matches!(new(&odd.expect("valid text")), Err(WasmProverError::Export("input"))));
}

#[test]
fn insecure_keys_are_refused_unless_allowed() {
    let keys = cache().dev_keys(Profile::Lite).expect("a setup");
    let wasm = CALM.wasm();
    match WasmProver::new(&wasm, &Digest::of_bytes(&wasm), keys, WasmLimits::default()) {
        Err(WasmProverError::Keys(KeyError::InsecureDev)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_that_loops_is_ended() {
    let endless = "(loop (br 0)) i32.const 0";
    let begun = Instant::now();
    let message = Wat { prove: endless, ..CALM }.prove(hurried()).expect_err("no answer");
    assert!(message.contains("did not return within 300ms"), "{message}");
    let load = Wat { load: endless, ..CALM }.prover(hurried());
    assert!(matches!(load, Err(WasmProverError::Load(ModuleFault::Time { .. }))), "{load:?}");
    let start = Wat { tail: "(func $start (loop (br 0))) (start $start)", ..CALM }.prover(hurried());
    assert!(matches!(start, Err(WasmProverError::Load(ModuleFault::Time { .. }))), "{start:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
}

/// A module that proves one statement by heart, and traps at every second request. That it gets to
/// the second shows that the instance stays; that the third is answered, that it is replaced.
#[test]
fn a_trap_is_an_error_and_the_next_proof_works() {
    let (run, proof) = proven();
    let tail = format!("(global $asked (mut i32) (i32.const 0)) {}", data(proof.as_bytes()));
    let prove = "(if (global.get $asked) (then unreachable)) (global.set $asked (i32.const 1)) i32.const 0";
    let prover =
        Wat { prove, tail: &tail, ..CALM }.prover(WasmLimits::default()).expect("a module that loads");
    for _ in 0..2 {
        assert_eq!(ask(&prover).as_ref(), Ok(proof));
        assert_eq!(prover.memory_bytes(), 128 << 16);
        let message = ask(&prover).expect_err("a trap");
        assert!(message.contains("trapped") && message.contains("unreachable"), "{message}");
        assert_eq!(prover.memory_bytes(), 0);
    }
    // By heart is not enough for another statement.
    let other = Run::honest(7, 3, 2);
    let refused = prover.prove(&other.statement, &other.witness, [9; 32]);
    assert!(
        matches!(&refused, Err(ProveError::Engine(text)) if text.contains("does not hold")),
        "{refused:?}"
    );
    // And which gate fails is not for the module to say.
    let unfit = prover.prove(&other.statement, &run.witness, [9; 32]);
    assert!(matches!(unfit, Err(ProveError::Unsatisfied(_))), "{unfit:?}");
}

#[test]
fn garbage_is_refused_by_the_native_verifier() {
    let (_, proof) = proven();
    let mut flipped = proof.as_bytes().to_vec();
    flipped[0] ^= 1;
    for bytes in [&[0; 128][..], &[0xff; 128], &flipped] {
        let message = Wat { tail: &data(bytes), ..CALM }.prove(WasmLimits::default()).expect_err("garbage");
        assert!(message.contains("a proof that does not hold"), "{message}");
    }
    let message =
        Wat { output_len: "i32.const 0", ..CALM }.prove(WasmLimits::default()).expect_err("nothing");
    assert!(message.contains("a proof that does not hold"), "{message}");
}

#[test]
fn a_module_reaches_its_own_memory_alone_and_no_more_of_it_than_allowed() {
    let fault = |wat: Wat<'_>, limits| wat.prove(limits).expect_err("a fault");
    let calm = WasmLimits::default();
    let beyond = fault(Wat { output: "i32.const 8388600", ..CALM }, calm);
    assert!(beyond.contains("128 bytes at 8388600"), "{beyond}");
    let far = fault(Wat { output: "i32.const -1", output_len: "i32.const -1", ..CALM }, calm);
    assert!(far.contains("no such thing"), "{far}");
    let long = fault(Wat { output_len: "i32.const 16385", ..CALM }, calm);
    assert!(long.contains("no such thing"), "{long}");

    let load = |input| Wat { input, ..CALM }.prover(calm).map(drop);
    assert!(matches!(load("i32.const 0"), Err(WasmProverError::Load(ModuleFault::NoRoom { .. }))));
    assert!(matches!(load("i32.const -8"), Err(WasmProverError::Load(ModuleFault::Address { .. }))));

    let greedy = "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) i32.const 0";
    let walls = WasmLimits { memory_bytes_max: 128 << 16, ..calm };
    let message = fault(Wat { prove: greedy, ..CALM }, walls);
    assert!(message.contains("more than its 8388608 bytes of memory"), "{message}");
    let fat = CALM.prover(WasmLimits { memory_bytes_max: 127 << 16, ..calm });
    assert!(matches!(fat, Err(WasmProverError::Load(ModuleFault::Memory { .. }))), "{fat:?}");

    let deep = Wat { prove: "call $deep", tail: "(func $deep (result i32) call $deep)", ..CALM };
    let message = fault(deep, calm);
    assert!(message.contains("stack"), "{message}");
}

#[test]
fn a_failure_is_told_in_the_words_of_the_module() {
    let tail = "(data (i32.const 1024) \"bad\\0akeys\")";
    let wat = Wat { prove: "i32.const 5", output_len: "i32.const 8", tail, ..CALM };
    let message = wat.prove(WasmLimits::default()).expect_err("a status");
    // Escaped, so that a module cannot write lines of its own into a log.
    assert!(message.ends_with(r#"status 5: "bad\nkeys""#), "{message}");
    let wat = Wat { prove: "i32.const 5", output_len: "i32.const 513", ..CALM };
    let message = wat.prove(WasmLimits::default()).expect_err("a status");
    assert!(message.ends_with(r#"status 5: """#), "{message}");
    let wat = Wat { load: "i32.const 2", output_len: "i32.const 8", tail, ..CALM };
    let load = wat.prover(WasmLimits::default());
    let Err(WasmProverError::Load(ModuleFault::Failed { status: 2, text })) = load else {
        panic!("{load:?}")
    };
    assert_eq!(text, "bad\nkeys");
}

/// The module that `nonos-zk-guest` makes, named by `NONOS_PROVER_MODULE`.
fn real(keys: KeySet) -> WasmProver {
    let path = std::env::var("NONOS_PROVER_MODULE").expect("NONOS_PROVER_MODULE names the module");
    let wasm = std::fs::read(&path).expect("a module");
    println!("module: {} bytes, SHA3-256 {}", wasm.len(), Digest::of_bytes(&wasm));
    let begun = Instant::now();
    let prover = WasmProver::open(path.as_ref(), &Digest::of_bytes(&wasm), keys, WasmLimits::default());
    println!("compiled, keys loaded: {:?}", begun.elapsed());
    prover.expect("a prover")
}

/// Times of a native proof and of the module's. The native prover takes RAYON_NUM_THREADS threads.
fn compare(profile: Profile) {
    let keys = keys(profile);
    let native = Groth16Prover::new(keys.clone()).expect("allowed");
    let verifier = Groth16Verifier::new(keys.verifying_key().clone()).expect("allowed");
    let wasm = real(keys);
    let run = Run::honest(31, 4, 1);
    let time = |name: &str, prover: &dyn Prover| {
        let begun = Instant::now();
        let proof = prover.prove(&run.statement, &run.witness, [8; 32]).expect("an honest run");
        println!("{profile} {name}: {:?}", begun.elapsed());
        proof
    };
    for _ in 0..3 {
        let (native, wasm) = (time("native", &native), time("wasm", &wasm));
        assert_eq!(verifier.verify(&run.statement, &wasm), Ok(()));
        assert_eq!(native, wasm, "one circuit, one seed, one proof");
    }
    println!("{profile} wasm: {} bytes of memory", wasm.memory_bytes());
}

#[test]
#[ignore = "needs the module of nonos-zk-guest, which .ci/real builds"]
fn prover_module_proves_lite() {
    compare(Profile::Lite);
}

#[test]
#[ignore = "needs the module of nonos-zk-guest, which .ci/real builds"]
fn prover_module_proves_full() {
    compare(Profile::Full);
}

#[test]
#[ignore = "needs the module of nonos-zk-guest, which .ci/real builds"]
fn prover_module_keeps_the_contract() {
    let verifier = Groth16Verifier::new(lite().verifying_key().clone()).expect("allowed");
    check_prover(&real(lite()), &verifier);
}
