//! Instantiation, metering and checkpoints beside raw wasmtime and its own fuel.
//!
//! The kernels are the same modules everywhere, C programs through clang at -O2 and, for the hard
//! case, the same written by hand with the shortest loops; metered ones run on a wasmtime with the settings
//! of the raw one, so that a row shows what metering costs and nothing else. Kernels are timed by
//! processor time, instantiation on the wall clock call by call.

mod interpreter;
mod kernels;

use std::collections::BTreeMap;
use std::time::Duration;

use nonos_capsule::testing::MemoryNonceStore;
use nonos_capsule::{
    Caps, Capsule, CheckSigned as _, Invocation, Loaded, Manifest, Policy, Runtime, SignaturePolicy,
    SignerRole, instrument,
};
use nonos_identity::{NetworkId, NodeId, SigningKey, Timestamp, Unverified};
use wasmtime::{
    Caller, Config, Engine, Global, Instance, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Store, Strategy, Val,
};

use self::kernels::{KECCAK, KECCAK_FIRST_LANE, Kernel, NOOP, compiled, permutations, sweep, tight};
use crate::Failure;
use crate::report::{Better, Of, Paired, Report, Row, Unmeasured, cpu_seconds, wall_seconds};

const ENTRY: &str = "_start";
/// Gas granted at each tick, as the runtime does.
const SLICE_GAS: i64 = 50_000_000;
/// Instantiations of which a round takes the percentiles.
const CALLS: usize = 2_000;

const RAW: &str = "raw wasmtime 48, pooling";
const FUEL: &str = "wasmtime 48 with its own fuel";
const UNCHECKPOINTED: &str = "the same run without checkpoints on the way";

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const DAY: Duration = Duration::from_secs(86_400);

const UNMEASURED: &[Unmeasured] = &[Unmeasured {
    target: "metering + depth over raw wasmtime: <= 1.35x on CPython",
    reason: "there is no runno/python-3.11.3.wasm in a folder named by NONOS_CORPUS",
}];

pub(crate) fn compare(rounds: usize) -> Result<Report, Failure> {
    let engines = Engines::new()?;
    let runtime = Runtime::new(nonos_capsule::Config::default())?;
    check_known_answer(&engines)?;
    let mut rows = instantiation(rounds, &engines, &runtime)?;

    let entrants = |kernels: Vec<Kernel>| {
        kernels.iter().map(|kernel| Entrant::new(kernel, &engines, &runtime)).collect::<Result<Vec<_>, _>>()
    };
    let (mut compiled, mut tight) = (entrants(compiled())?, entrants(tight())?);
    let mut swept = Entrant::new(&sweep(), &engines, &runtime)?;
    for _ in 0..rounds {
        for entrant in compiled.iter_mut().chain([&mut swept]) {
            entrant.round()?;
        }
        for entrant in &mut tight {
            entrant.round_of_programs()?;
        }
    }
    let keccak = |entrants: &[Entrant]| entrants.iter().find(|e| e.name == KECCAK).and_then(|e| e.result);
    if keccak(&compiled) != keccak(&tight) {
        return Err("the two keccak kernels disagree".into());
    }
    rows.extend(metering(&compiled));
    rows.extend(checkpoints(&compiled, &swept));
    rows.extend(tight_loops(&tight));
    rows.push(verification(rounds)?);
    match interpreter::rows(rounds, &engines)? {
        Some(python) => {
            rows.extend(python);
            Ok(Report::new(rows, &[]))
        }
        None => Ok(Report::new(rows, UNMEASURED)),
    }
}

/// Parsing and checking a capsule of 20 MB: section digests, chunks, payload, signature.
fn verification(rounds: usize) -> Result<Row, Failure> {
    const MIB: usize = 20;
    let network = NetworkId::from_name("versus");
    let mut capsule = Capsule::pack(Manifest::new("large", "1.0.0"), Policy::default(), vec![7; MIB << 20])?;
    capsule.sign(SignerRole::Author, &SigningKey::from_seed(&[7; 32]), &network, NOW, DAY)?;
    let (bytes, rule) = (capsule.to_bytes(), SignaturePolicy::new(network));
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let (checked, seconds) = cpu_seconds(|| {
            let parsed = Capsule::parse(&bytes)?;
            Ok::<_, Failure>(parsed.check_signed(&rule, NOW)?)
        });
        checked?;
        #[expect(clippy::cast_precision_loss, reason = "twenty")]
        rates.push((MIB << 20) as f64 / 1e6 / seconds);
    }
    Ok(Row::alone("verify a capsule of 20 MiB", "MB/s CPU", Better::Higher, &rates))
}

/// Engines that differ in one setting each.
struct Engines {
    raw: Engine,
    fuel: Engine,
    canonical: Engine,
}

impl Engines {
    fn new() -> Result<Self, Failure> {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(8).total_memories(8).total_tables(8).max_memory_size(64 << 20);
        let mut config = Config::new();
        config
            .strategy(Strategy::Cranelift)
            .wasm_backtrace_max_frames(None)
            .wasm_branch_hinting(true)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let raw = Engine::new(&config)?;
        let fuel = Engine::new(config.clone().consume_fuel(true))?;
        let canonical = Engine::new(config.cranelift_nan_canonicalization(true))?;
        Ok(Self { raw, fuel, canonical })
    }
}

/// A compiled program of one engine.
struct Program {
    pre: InstancePre<Meter>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Fuel,
    Metered,
}

/// The gas global of a metered instance, once there is one.
#[derive(Default)]
struct Meter(Option<Global>);

impl Program {
    fn new(engine: &Engine, wasm: &[u8], kind: Kind) -> Result<Self, Failure> {
        let mut linker = Linker::<Meter>::new(engine);
        linker.func_wrap(
            instrument::TICK_MODULE,
            instrument::TICK_NAME,
            |mut caller: Caller<'_, Meter>| match caller.data().0 {
                Some(gas) => gas.set(&mut caller, Val::I64(SLICE_GAS)),
                None => Ok(()),
            },
        )?;
        Ok(Self { pre: linker.instantiate_pre(&Module::new(engine, wasm)?)?, kind })
    }

    fn start(&self) -> wasmtime::Result<(Store<Meter>, Instance)> {
        let mut store = Store::new(self.pre.module().engine(), Meter::default());
        if self.kind == Kind::Fuel {
            store.set_fuel(u64::MAX)?;
        }
        let instance = self.pre.instantiate(&mut store)?;
        if self.kind == Kind::Metered {
            let mut set = |name: &str, value| match instance.get_global(&mut store, name) {
                Some(global) => global.set(&mut store, value).map(|()| Some(global)),
                None => Ok(None),
            };
            let depth = i32::try_from(Policy::MAX_STACK_DEPTH).unwrap_or(i32::MAX);
            set(instrument::DEPTH_EXPORT, Val::I32(depth))?;
            let gas = set(instrument::GAS_EXPORT, Val::I64(SLICE_GAS))?;
            store.data_mut().0 = gas;
        }
        Ok((store, instance))
    }

    /// Instantiates, calls the entry and drops everything.
    fn run_once(&self) -> wasmtime::Result<()> {
        let (mut store, instance) = self.start()?;
        instance.get_typed_func::<(), ()>(&mut store, ENTRY)?.call(&mut store, ())
    }

    /// The result of a run, and the seconds of processor time in its entry.
    fn run(&self) -> Result<(u64, f64), Failure> {
        let (mut store, instance) = self.start()?;
        let entry = instance.get_typed_func::<(), ()>(&mut store, ENTRY)?;
        let (result, seconds) = cpu_seconds(|| entry.call(&mut store, ()));
        result?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("no memory")?;
        let bytes = memory.data(&store).get(8..).and_then(<[u8]>::first_chunk).ok_or("no page")?;
        Ok((u64::from_le_bytes(*bytes), seconds))
    }
}

fn metered(wasm: &[u8]) -> Result<instrument::Metered, Failure> {
    Ok(instrument::meter(wasm, &Caps::default())?)
}

fn gas_only(wasm: &[u8]) -> Result<Vec<u8>, Failure> {
    Ok(instrument::meter_gas_only(wasm, &Caps::default())?)
}

/// The Keccak kernel is Keccak: one permutation of zero gives the published lane.
fn check_known_answer(engines: &Engines) -> Result<(), Failure> {
    let wasm = wat::parse_str(permutations(1))?;
    for (engine, wasm, kind) in
        [(&engines.raw, &wasm[..], Kind::Raw), (&engines.raw, metered(&wasm)?.wasm(), Kind::Metered)]
    {
        if Program::new(engine, wasm, kind)?.run()?.0 != KECCAK_FIRST_LANE {
            return Err("the keccak kernel does not compute Keccak-f[1600]".into());
        }
    }
    Ok(())
}

/// A capsule of this module, signed, checked and loaded under the default policy but for the
/// checkpoints.
fn load(runtime: &Runtime, wasm: &[u8], checkpoint_interval_gas: u64) -> Result<Loaded, Failure> {
    let policy = Policy { checkpoint_interval_gas, ..Policy::default() };
    let network = NetworkId::from_name("versus");
    let mut capsule = Capsule::pack(Manifest::new("kernel", "1.0.0"), policy.clone(), wasm.to_vec())?;
    capsule.sign(SignerRole::Author, &SigningKey::from_seed(&[7; 32]), &network, NOW, DAY)?;
    let capsule = Unverified::new(capsule).check_signed(&SignaturePolicy::new(network), NOW)?;
    Ok(runtime.load(&capsule, &policy)?)
}

fn invocation() -> Invocation {
    Invocation::new(NodeId::from_bytes([9; 32]), [1; 32], NOW, NetworkId::from_name("versus"))
}

/// Seconds of processor time of a whole run.
fn run_loaded(loaded: &Loaded) -> Result<f64, Failure> {
    let (invocation, nonces) = (invocation(), MemoryNonceStore::default());
    let (execution, seconds) = cpu_seconds(|| loaded.run(&invocation, &nonces));
    let status = execution?.status;
    if status.is_success() { Ok(seconds) } else { Err(format!("run ended with {status}").into()) }
}

/// Percentiles that are reported of many calls.
const PERCENTILES: [usize; 2] = [50, 99];

/// The time of many calls at each of [`PERCENTILES`], in microseconds on the wall clock.
fn percentiles<E: Into<Failure>>(
    mut call: impl FnMut() -> Result<f64, E>,
) -> Result<[f64; PERCENTILES.len()], Failure> {
    let mut times = (0..CALLS).map(|_| call().map_err(Into::into)).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    Ok(PERCENTILES.map(|percent| times.get(CALLS * percent / 100).copied().unwrap_or_default() * 1e6))
}

fn instantiation(rounds: usize, engines: &Engines, runtime: &Runtime) -> Result<Vec<Row>, Failure> {
    let wasm = wat::parse_str(NOOP)?;
    let raw = Program::new(&engines.raw, &wasm, Kind::Raw)?;
    let bare = Program::new(&engines.raw, metered(&wasm)?.wasm(), Kind::Metered)?;
    let loaded = load(runtime, &wasm, Policy::DEFAULT_CHECKPOINT_INTERVAL_GAS)?;
    let once = |program: &Program| {
        percentiles(|| {
            let (result, seconds) = wall_seconds(|| program.run_once());
            result.map(|()| seconds)
        })
    };
    let [mut bares, mut hosts] = [(); 2].map(|()| PERCENTILES.map(|_| Paired::default()));
    for _ in 0..rounds {
        let anchor = once(&raw)?;
        let host = percentiles(|| {
            let (invocation, nonces) = (invocation(), MemoryNonceStore::default());
            let (execution, seconds) = wall_seconds(|| loaded.run(&invocation, &nonces));
            execution.map(|_| seconds)
        })?;
        for (pairs, ours) in [(&mut bares, once(&bare)?), (&mut hosts, host)] {
            for ((pair, ours), anchor) in pairs.iter_mut().zip(ours).zip(anchor) {
                pair.push(ours, anchor);
            }
        }
    }
    let mut rows = Vec::new();
    for (pairs, host, target) in [(bares, "bare", 6.0), (hosts, "full host", 15.0)] {
        for (pair, percent) in pairs.iter().zip(PERCENTILES) {
            let name = format!("instantiate + first call p{percent}, {host}");
            let row = pair.row(name, "us wall", Better::Lower, RAW);
            rows.push(if percent == 50 { row.target(Of::Ours, target) } else { row });
        }
    }
    Ok(rows)
}

/// One kernel on every engine.
struct Entrant {
    name: &'static str,
    has_floats: bool,
    raw: Program,
    fuel: Program,
    gas_only: Program,
    metered: Program,
    shipped: Program,
    loaded: Loaded,
    unchecked: Loaded,
    times: BTreeMap<Subject, Vec<f64>>,
    result: Option<u64>,
}

/// What of a kernel is timed, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Raw,
    Fuel,
    /// Gas without depth.
    GasOnly,
    /// Gas and depth.
    Metered,
    /// Gas, depth, and canonical NaNs where there are floats: what the runtime compiles.
    Shipped,
    /// A run by the runtime, with checkpoints.
    Loaded,
    /// The same but for the checkpoints between the first and the last.
    Unchecked,
}

impl Entrant {
    fn new(kernel: &Kernel, engines: &Engines, runtime: &Runtime) -> Result<Self, Failure> {
        let wasm = wat::parse_str(&kernel.wat).map_err(|error| format!("{}: {error}", kernel.name))?;
        let metered = metered(&wasm)?;
        let shipped = if metered.has_floats() { &engines.canonical } else { &engines.raw };
        Ok(Self {
            name: kernel.name,
            has_floats: metered.has_floats(),
            raw: Program::new(&engines.raw, &wasm, Kind::Raw)?,
            fuel: Program::new(&engines.fuel, &wasm, Kind::Fuel)?,
            gas_only: Program::new(&engines.raw, &gas_only(&wasm)?, Kind::Metered)?,
            metered: Program::new(&engines.raw, metered.wasm(), Kind::Metered)?,
            shipped: Program::new(shipped, metered.wasm(), Kind::Metered)?,
            loaded: load(runtime, &wasm, Policy::DEFAULT_CHECKPOINT_INTERVAL_GAS)?,
            unchecked: load(runtime, &wasm, Policy::MAX_GAS)?,
            times: BTreeMap::new(),
            result: None,
        })
    }

    /// Runs everywhere once.
    fn round(&mut self) -> Result<(), Failure> {
        self.round_of_programs()?;
        for (subject, loaded) in [(Subject::Loaded, &self.loaded), (Subject::Unchecked, &self.unchecked)] {
            self.times.entry(subject).or_default().push(run_loaded(loaded)? * 1e3);
        }
        Ok(())
    }

    /// Runs on every engine once; all must compute the same.
    fn round_of_programs(&mut self) -> Result<(), Failure> {
        let programs = [
            (Subject::Raw, &self.raw),
            (Subject::Fuel, &self.fuel),
            (Subject::GasOnly, &self.gas_only),
            (Subject::Metered, &self.metered),
            (Subject::Shipped, &self.shipped),
        ];
        for (subject, program) in programs {
            let (result, seconds) = program.run()?;
            if *self.result.get_or_insert(result) != result {
                return Err(format!("the engines disagree on {}", self.name).into());
            }
            self.times.entry(subject).or_default().push(seconds * 1e3);
        }
        Ok(())
    }

    fn pair(&self, ours: Subject, anchor: Subject) -> Paired {
        let times = |subject| self.times.get(&subject).cloned().unwrap_or_default();
        Paired { ours: times(ours), anchor: times(anchor) }
    }

    fn row(&self, name: &str, ours: Subject, anchor: Subject, anchor_name: &'static str) -> Row {
        self.pair(ours, anchor).row(format!("{name}, {}", self.name), "ms CPU", Better::Lower, anchor_name)
    }
}

fn mean(entrants: &[Entrant], name: &str, ours: Subject, anchor: Subject, anchor_name: &'static str) -> Row {
    let pairs: Vec<Paired> = entrants.iter().map(|entrant| entrant.pair(ours, anchor)).collect();
    Row::mean(format!("{name}, geometric mean"), anchor_name, &pairs)
}

fn metering(entrants: &[Entrant]) -> Vec<Row> {
    let compare = |name: &str, ours, anchor, anchor_name| {
        let each = entrants.iter().map(move |entrant| entrant.row(name, ours, anchor, anchor_name));
        (each.collect::<Vec<_>>(), mean(entrants, name, ours, anchor, anchor_name))
    };
    let (mut rows, over_raw) = compare("metering + depth", Subject::Metered, Subject::Raw, RAW);
    rows.push(over_raw.target(Of::Ratio, 1.45));
    for (name, ours, anchor, anchor_name) in [
        ("metering", Subject::GasOnly, Subject::Raw, RAW),
        ("metering + depth beside native fuel", Subject::Metered, Subject::Fuel, FUEL),
        ("native fuel alone", Subject::Fuel, Subject::Raw, RAW),
    ] {
        let (each, mean) = compare(name, ours, anchor, anchor_name);
        rows.extend(each);
        rows.push(mean);
    }
    let name = "metering + depth + canonical NaNs";
    let floats = entrants.iter().filter(|entrant| entrant.has_floats);
    rows.extend(floats.map(|entrant| entrant.row(name, Subject::Shipped, Subject::Raw, RAW)));
    rows.push(mean(entrants, name, Subject::Shipped, Subject::Raw, RAW));
    rows.push(mean(entrants, "whole run, host and checkpoints", Subject::Loaded, Subject::Raw, RAW));
    rows
}

fn checkpoints(entrants: &[Entrant], swept: &Entrant) -> Vec<Row> {
    let (name, ours, anchor) = ("checkpoints", Subject::Loaded, Subject::Unchecked);
    let mut rows: Vec<Row> = entrants
        .iter()
        .chain([swept])
        .map(|entrant| entrant.row(name, ours, anchor, UNCHECKPOINTED))
        .collect();
    rows.push(mean(entrants, name, ours, anchor, UNCHECKPOINTED));
    rows.into_iter().map(|row| row.target(Of::Ratio, 1.10)).collect()
}

/// Metering where a loop has next to nothing in it.
fn tight_loops(entrants: &[Entrant]) -> Vec<Row> {
    let (name, ours) = ("metering + depth, tight loops", Subject::Metered);
    let each = entrants.iter().map(|entrant| entrant.row(name, ours, Subject::Raw, RAW));
    let mut rows: Vec<Row> = each.collect();
    rows.push(mean(entrants, name, ours, Subject::Raw, RAW).target(Of::Ratio, 1.45));
    rows.push(mean(entrants, "metering + depth beside native fuel, tight loops", ours, Subject::Fuel, FUEL));
    rows
}
