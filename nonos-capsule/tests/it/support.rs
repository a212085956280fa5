//! What the tests share: keys, capsules from WAT text, runs.

use std::sync::Arc;
use std::time::Duration;

use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    Caps, Capsule, CheckSigned as _, Config, Execution, HostCallSet, Invocation, LoadError, Loaded, Manifest,
    Policy, RunError, Runtime, SignaturePolicy, SignerRole, WasmiEngine, wasm_from_wat_or_wasm,
};
use nonos_identity::{NetworkId, NodeId, SigningKey, Timestamp, Unverified, Verified};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn network() -> NetworkId {
    NetworkId::from_name("test")
}

pub(crate) fn author() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

/// Small limits, so that attacks end fast; every host call.
pub(crate) fn policy() -> Policy {
    Policy {
        gas_limit: 10_000_000,
        memory_pages_max: 64,
        checkpoint_interval_gas: Policy::MIN_CHECKPOINT_INTERVAL_GAS,
        host_calls: HostCallSet::ALL,
        output_max_bytes: 4_096,
        ..Policy::default()
    }
}

pub(crate) fn packed(payload: &[u8], policy: Policy) -> Capsule {
    Capsule::pack(Manifest::new("test", "1.0.0"), policy, payload.to_vec()).unwrap()
}

pub(crate) fn signed(payload: &[u8], policy: Policy) -> Capsule {
    let mut capsule = packed(payload, policy);
    capsule.sign(SignerRole::Author, &author(), &network(), NOW, DAY).unwrap();
    capsule
}

pub(crate) fn verified(capsule: Capsule) -> Verified<Capsule> {
    Unverified::new(capsule).check_signed(&SignaturePolicy::new(network()), NOW).unwrap()
}

pub(crate) fn wasm(wat: &str) -> Vec<u8> {
    wasm_from_wat_or_wasm(wat.as_bytes()).unwrap()
}

pub(crate) fn runtime() -> Runtime {
    runtime_with(&Caps::default())
}

pub(crate) fn runtime_with(caps: &Caps) -> Runtime {
    Runtime::new(Config { pool_slots: 2, caps: caps.clone(), ..Config::default() }).unwrap()
}

/// A runtime on the second engine.
pub(crate) fn interpreter() -> Runtime {
    interpreter_with(&Caps::default())
}

pub(crate) fn interpreter_with(caps: &Caps) -> Runtime {
    Runtime::with_engine(caps.clone(), Arc::new(WasmiEngine::new().unwrap()))
}

pub(crate) fn try_load(payload: &[u8], policy: Policy) -> Result<Loaded, LoadError> {
    runtime().load(&verified(signed(payload, policy.clone())), &policy)
}

pub(crate) fn load(wat: &str, policy: Policy) -> Loaded {
    try_load(&wasm(wat), policy).unwrap()
}

pub(crate) fn invocation(input: &[u8]) -> Invocation {
    Invocation {
        input: input.to_vec(),
        ..Invocation::new(NodeId::from_bytes([9; 32]), [1; 32], NOW, network())
    }
}

pub(crate) fn run(loaded: &Loaded, invocation: &Invocation) -> Result<Execution, RunError> {
    loaded.run(invocation, &MemoryNonceStore::default())
}

/// Loads under the test policy and runs with an input, on both engines.
pub(crate) fn run_wat(wat: &str, input: &[u8]) -> Execution {
    let wasm = wasm(wat);
    let load = |runtime: Runtime| {
        runtime.load(&verified(signed(&wasm, policy())), &policy()).unwrap_or_else(|error| panic!("{error}"))
    };
    let execution = run(&load(runtime()), &invocation(input)).unwrap();
    let interpreted = run(&load(interpreter()), &invocation(input)).unwrap();
    assert_eq!(execution, interpreted, "the engines agree");
    execution
}

/// A command with one page of memory, some imports and a body.
pub(crate) fn command(imports: &str, body: &str) -> String {
    format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start") {body}))"#)
}

/// The import of a WASI function, named `$call` in the text.
pub(crate) fn import(call: nonos_capsule::HostCall) -> String {
    let param = |kind| if kind == 'I' { "i64 " } else { "i32 " };
    let params: String = call.params().chars().map(param).collect();
    let result = if call == nonos_capsule::HostCall::ProcExit { "" } else { "(result i32)" };
    let module = call.module();
    format!(r#"(import "{module}" "{call}" (func ${call} (param {params}) {result}))"#)
}
