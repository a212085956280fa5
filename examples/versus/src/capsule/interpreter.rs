//! CPython: a program of 20 MB that nobody here wrote. It comes as a module from elsewhere, read from
//! `runno/` in the folder that NONOS_CORPUS names.
//!
//! The raw runs have wasmtime's own WASI and the files on disk, the whole runs ours and the files in
//! memory; the script does arithmetic and prints once, so that neither matters.

use std::path::{Path, PathBuf};

use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    AotCache, Capsule, CheckSigned as _, HostCallSet, Image, Invocation, Loaded, Manifest, Policy, Preopen,
    Runtime, SignaturePolicy, SignerRole, instrument,
};
use nonos_identity::{NetworkId, SigningKey, Unverified, Verified};
use wasmtime::{Caller, Engine, Global, InstancePre, Linker, Module, Store, Val};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::{
    DAY, ENTRY, Engines, FUEL, Kind, NOW, RAW, SLICE_GAS, UNCHECKPOINTED, gas_only, invocation, metered,
};
use crate::Failure;
use crate::report::{Better, Of, Paired, Row, cpu_seconds, wall_seconds};

const SCRIPT: &str = "print(sum(i * i % 7 for i in range(400000)))";
const MODULE: &str = "python-3.11.3.wasm";
const LIBRARY: &str = "python-3.11.3.tar.gz";

/// The rows, or nothing where there is no CPython.
pub(super) fn rows(rounds: usize, engines: &Engines) -> Result<Option<Vec<Row>>, Failure> {
    let Some(corpus) = std::env::var_os("NONOS_CORPUS") else { return Ok(None) };
    let folder = Path::new(&corpus).join("runno");
    let wasm = match std::fs::read(folder.join(MODULE)) {
        Ok(wasm) => wasm,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let library = Library::unpack(&folder.join(LIBRARY))?;
    let metered = metered(&wasm)?;
    let raw = Python::new(&engines.raw, &wasm, Kind::Raw, &library.folder)?;
    let fuel = Python::new(&engines.fuel, &wasm, Kind::Fuel, &library.folder)?;
    let gas_only = Python::new(&engines.raw, &gas_only(&wasm)?, Kind::Metered, &library.folder)?;
    let plain = Python::new(&engines.raw, metered.wasm(), Kind::Metered, &library.folder)?;
    let shipped = Python::new(&engines.canonical, metered.wasm(), Kind::Metered, &library.folder)?;

    let cache = tempfile::tempdir()?;
    let open = || AotCache::open(cache.path(), AotCache::DEFAULT_MAX_BYTES);
    let runtime = |cache| {
        let config = nonos_capsule::Config { cache, ..nonos_capsule::Config::default() };
        Runtime::new(config)
    };
    let capsule = capsule(&wasm, Policy::DEFAULT_CHECKPOINT_INTERVAL_GAS)?;
    let unchecked = self::capsule(&wasm, Policy::MAX_GAS)?;
    let first = runtime(Some(open()?))?;
    let loaded = first.load(&capsule, &policy(Policy::DEFAULT_CHECKPOINT_INTERVAL_GAS))?;
    let unchecked = first.load(&unchecked, &policy(Policy::MAX_GAS))?;

    let [mut gas_over_raw, mut over_raw, mut over_fuel, mut fuel_alone] = [(); 4].map(|()| Paired::default());
    let [mut with_nans, mut whole, mut checkpoints] = [(); 3].map(|()| Paired::default());
    let mut loads = Vec::new();
    for _ in 0..rounds {
        let [raw, fuel, gas_only] = [&raw, &fuel, &gas_only].map(Python::run);
        let [plain, shipped] = [&plain, &shipped].map(Python::run);
        let (raw, fuel, gas_only, plain, shipped) = (raw?, fuel?, gas_only?, plain?, shipped?);
        let (bare, run) = (run(&unchecked, &library)?, run(&loaded, &library)?);
        gas_over_raw.push(gas_only, raw);
        over_raw.push(plain, raw);
        over_fuel.push(plain, fuel);
        fuel_alone.push(fuel, raw);
        with_nans.push(shipped, raw);
        whole.push(run, raw);
        checkpoints.push(run, bare);
        let runtime = runtime(Some(open()?))?;
        let (again, seconds) =
            wall_seconds(|| runtime.load(&capsule, &policy(Policy::DEFAULT_CHECKPOINT_INTERVAL_GAS)));
        again?;
        loads.push(seconds * 1e3);
    }
    let row = |pair: &Paired, name: &str, anchor| {
        pair.row(format!("{name}, CPython 3.11"), "ms CPU", Better::Lower, anchor)
    };
    Ok(Some(vec![
        row(&gas_over_raw, "metering", RAW),
        row(&over_raw, "metering + depth", RAW).target(Of::Ratio, 1.35),
        row(&over_fuel, "metering + depth beside native fuel", FUEL),
        row(&fuel_alone, "native fuel alone", RAW),
        row(&with_nans, "metering + depth + canonical NaNs", RAW),
        row(&whole, "whole run, host and checkpoints", RAW),
        row(&checkpoints, "checkpoints", UNCHECKPOINTED).target(Of::Ratio, 1.10),
        Row::alone("load 20 MB from the sealed cache", "ms wall", Better::Lower, &loads),
    ]))
}

/// CPython's library, on disk for wasmtime's WASI and as an image for ours.
struct Library {
    folder: PathBuf,
    image: Image,
    _keep: tempfile::TempDir,
}

impl Library {
    fn unpack(archive: &Path) -> Result<Self, Failure> {
        let keep = tempfile::tempdir()?;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(archive)?;
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut bytes)?;
        tar::Archive::new(&bytes[..]).unpack(keep.path())?;
        Ok(Self { folder: keep.path().to_owned(), image: Image::from_tar(&bytes)?, _keep: keep })
    }
}

struct Host {
    wasi: WasiP1Ctx,
    gas: Option<Global>,
}

/// CPython on one engine with wasmtime's WASI.
struct Python<'a> {
    pre: InstancePre<Host>,
    kind: Kind,
    library: &'a Path,
}

impl<'a> Python<'a> {
    fn new(engine: &Engine, wasm: &[u8], kind: Kind, library: &'a Path) -> Result<Self, Failure> {
        let mut linker = Linker::<Host>::new(engine);
        p1::add_to_linker_sync(&mut linker, |host| &mut host.wasi)?;
        linker.func_wrap(
            instrument::TICK_MODULE,
            instrument::TICK_NAME,
            |mut caller: Caller<'_, Host>| match caller.data().gas {
                Some(gas) => gas.set(&mut caller, Val::I64(SLICE_GAS)),
                None => Ok(()),
            },
        )?;
        Ok(Self { pre: linker.instantiate_pre(&Module::new(engine, wasm)?)?, kind, library })
    }

    /// Milliseconds of processor time in the entry.
    fn run(&self) -> Result<f64, Failure> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&["python", "-c", SCRIPT]);
        wasi.preopened_dir(self.library, "/", FsPerms::ReadOnly)?;
        let mut store = Store::new(self.pre.module().engine(), Host { wasi: wasi.build_p1(), gas: None });
        if self.kind == Kind::Fuel {
            store.set_fuel(u64::MAX)?;
        }
        let instance = self.pre.instantiate(&mut store)?;
        if self.kind == Kind::Metered {
            let missing = || Failure::from("not metered");
            let depth = instance.get_global(&mut store, instrument::DEPTH_EXPORT).ok_or_else(missing)?;
            depth.set(&mut store, Val::I32(i32::try_from(Policy::MAX_STACK_DEPTH)?))?;
            let gas = instance.get_global(&mut store, instrument::GAS_EXPORT).ok_or_else(missing)?;
            gas.set(&mut store, Val::I64(SLICE_GAS))?;
            store.data_mut().gas = Some(gas);
        }
        let entry = instance.get_typed_func::<(), ()>(&mut store, ENTRY)?;
        let (result, seconds) = cpu_seconds(|| entry.call(&mut store, ()));
        match result {
            Ok(()) => Ok(seconds * 1e3),
            // How wasmtime's WASI tells of `proc_exit`.
            Err(error) if error.downcast_ref().is_some_and(|exit: &wasmtime_wasi::I32Exit| exit.0 == 0) => {
                Ok(seconds * 1e3)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn policy(checkpoint_interval_gas: u64) -> Policy {
    Policy {
        gas_limit: 100_000_000_000,
        memory_pages_max: 4_096,
        host_calls: HostCallSet::FILES,
        checkpoint_interval_gas,
        wall_ms_max: Policy::MAX_WALL_MS,
        ..Policy::default()
    }
}

fn capsule(wasm: &[u8], checkpoint_interval_gas: u64) -> Result<Verified<Capsule>, Failure> {
    let network = NetworkId::from_name("versus");
    let policy = policy(checkpoint_interval_gas);
    let mut capsule = Capsule::pack(Manifest::new("python", "3.11.3"), policy, wasm.to_vec())?;
    capsule.sign(SignerRole::Author, &SigningKey::from_seed(&[7; 32]), &network, NOW, DAY)?;
    Ok(Unverified::new(capsule).check_signed(&SignaturePolicy::new(network), NOW)?)
}

/// Milliseconds of processor time of a whole run.
fn run(loaded: &Loaded, library: &Library) -> Result<f64, Failure> {
    let invocation = Invocation {
        args: ["python", "-c", SCRIPT].map(str::to_owned).to_vec(),
        preopens: vec![Preopen { path: "/".to_owned(), image: library.image.clone() }],
        ..invocation()
    };
    let nonces = MemoryNonceStore::default();
    let (execution, seconds) = cpu_seconds(|| loaded.run(&invocation, &nonces));
    let execution = execution?;
    if execution.status.is_success() {
        Ok(seconds * 1e3)
    } else {
        let told = String::from_utf8_lossy(&execution.stderr).into_owned();
        Err(format!("CPython ended with {}: {told}", execution.status).into())
    }
}
