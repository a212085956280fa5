//! Receipts beside raw ark-groth16 on a synthetic circuit of the same size and density.

use std::ffi::OsStr;
use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;

use ark_bn254::{Bn254, Fr};
use ark_ff::{One as _, UniformRand as _, Zero as _};
use ark_groth16::{Groth16, PreparedVerifyingKey, ProvingKey};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystemRef, LinearCombination, SynthesisError, Variable,
};
use ark_relations::lc;
use ark_snark::SNARK as _;
use ark_std::rand::rngs::StdRng;
use ark_std::rand::{Rng as _, SeedableRng as _};
use nonos_identity::Digest;
use nonos_node::{WasmLimits, WasmProver};
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeySet, gate_sizes};
use nonos_zk::testing::Run;
use nonos_zk::{Profile, Prover, Verifier as _};

use crate::Failure;
use crate::report::{Better, Of, Paired, Report, Row, Unmeasured, cpu_seconds, median, wall_seconds};

/// A synthetic circuit as large as one of ours and as dense: bits, then products of rows.
struct Size {
    profile: Profile,
    /// Wires that hold a bit; multiplying by them is nearly free.
    bits: usize,
    /// Terms of a product's row in matrix A and in matrix B, so that both matrices are as full as ours.
    terms: [usize; 2],
    /// Which wires occur in matrix B; the query in G2 is as long as there are such.
    in_b: InB,
}

#[derive(Clone, Copy)]
enum InB {
    TwoOfThree,
    Bits,
}

const SIZES: [Size; 2] = [
    // Of 7 697 wires 446 are bits and 5 281 are in B; the matrices have 68 450 and 129 635 terms.
    Size { profile: Profile::Lite, bits: 446, terms: [9, 18], in_b: InB::TwoOfThree },
    // Of 185 108 wires 175 103 are bits and 173 527 are in B; 650 210 and 639 484 terms.
    Size { profile: Profile::Full, bits: 175_103, terms: [45, 28], in_b: InB::Bits },
];

/// Verifications of which a round takes the median.
const VERIFICATIONS: usize = 20;

const RAW: &str = "raw ark-groth16 0.6, synthetic circuit of the same size and density";
const NATIVE: &str = "the native prover, all cores";
/// Proofs in wasmtime; they take long.
const WASM_ROUNDS: u8 = 3;
/// Names the prover as a module, as `.ci/prover_module` builds it.
const MODULE: &str = "NONOS_PROVER_MODULE";

/// Names the keys with which a process of this program proves and does nothing else.
const PROVE_WITH: &str = "NONOS_VERSUS_PROVE_WITH";

const UNMEASURED: &[Unmeasured] = &[Unmeasured {
    target: "the prover in wasmtime beside the native one",
    reason: "NONOS_PROVER_MODULE names no module; .ci/prover_module builds it",
}];

const ONE: &str = "the same verifier, one proof";
/// Proofs of a batch.
const BATCH: usize = 64;

/// Limits of a proof: seconds on a calm machine, and megabytes.
const fn targets(profile: Profile) -> (f64, Option<f64>) {
    match profile {
        Profile::Lite => (0.7, None),
        _ => (3.5, Some(400.0)),
    }
}

pub(crate) fn compare(rounds: usize) -> Result<Report, Failure> {
    if let Some(path) = std::env::var_os(PROVE_WITH) {
        prove_alone(&path, &mut std::io::stdout())?;
        std::process::exit(0);
    }
    let module = std::env::var_os(MODULE).map(fs::read).transpose()?;
    let mut rows = Vec::new();
    for size in &SIZES {
        rows.extend(measure(size, rounds)?);
        if let Some(module) = &module {
            rows.extend(in_wasm(size.profile, module)?);
        }
    }
    Ok(Report::new(rows, if module.is_some() { &[] } else { UNMEASURED }))
}

/// Megabytes of a process of its own that reads these keys and proves: this one holds what setup left.
fn memory_of_a_prover(keys: &KeySet) -> Result<Vec<f64>, Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("keys");
    fs::write(&path, keys.to_bytes())?;
    let child = Command::new(std::env::current_exe()?).arg("zk").env(PROVE_WITH, &path).output()?;
    if !child.status.success() {
        return Err(String::from_utf8_lossy(&child.stderr).into_owned().into());
    }
    let told = String::from_utf8(child.stdout)?;
    Ok(told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// What that process does: three proofs, and the peak of each.
fn prove_alone(path: &OsStr, out: &mut impl Write) -> Result<(), Failure> {
    let keys = KeySet::from_bytes(&fs::read(path)?)?.allow_insecure_dev();
    let prover = Groth16Prover::new(keys)?;
    let run = Run::honest(1, 100, 5);
    for seed in 0..3 {
        let peak = peak_megabytes(|| prover.prove(&run.statement, &run.witness, [seed; 32]));
        writeln!(out, "{}", peak.map_or_else(String::new, |peak| peak.to_string()))?;
    }
    Ok(())
}

/// The prover as a module in wasmtime, on one thread, beside the native one on all cores.
fn in_wasm(profile: Profile, module: &[u8]) -> Result<Vec<Row>, Failure> {
    let keys = KeySet::dev_setup(profile)?.allow_insecure_dev();
    let native = Groth16Prover::new(keys.clone())?;
    let digest = Digest::of_bytes(module);
    let (wasm, load) = wall_seconds(|| WasmProver::new(module, &digest, keys, WasmLimits::default()));
    let wasm = wasm?;
    let run = Run::honest(1, 100, 5);
    let (mut wall, mut cpu) = (Paired::default(), Paired::default());
    for round in 0..WASM_ROUNDS {
        let prove = |prover: &dyn Prover| {
            let work = || prover.prove(black_box(&run.statement), &run.witness, [round; 32]);
            let ((proof, cpu), wall) = wall_seconds(|| cpu_seconds(work));
            proof.map(|_| (wall, cpu))
        };
        let (ours, anchor) = (prove(&wasm)?, prove(&native)?);
        wall.push(ours.0, anchor.0);
        cpu.push(ours.1, anchor.1);
    }
    let named = |what: &str| format!("{profile}: {what}");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let memory = wasm.memory_bytes() as f64 / 1e6;
    Ok(vec![
        wall.row(named("prove in wasmtime, one thread"), "s wall", Better::Lower, NATIVE),
        cpu.row(named("prove in wasmtime"), "s CPU", Better::Lower, NATIVE),
        Row::alone(named("load module and keys into wasmtime"), "s wall", Better::Lower, &[load]),
        Row::alone(named("memory of the module"), "MB", Better::Lower, &[memory]),
    ])
}

fn measure(size: &Size, rounds: usize) -> Result<Vec<Row>, Failure> {
    let profile = size.profile;
    let constraints = gate_sizes(profile).total();
    let (keys, our_setup) = wall_seconds(|| KeySet::dev_setup(profile));
    let keys = keys?.allow_insecure_dev();
    let run = Run::honest(1, 100, 5);
    let prover = Groth16Prover::new(keys.clone())?;
    let verifier = Groth16Verifier::new(keys.verifying_key().clone())?;
    let prove = |seed| prover.prove(black_box(&run.statement), &run.witness, seed);
    let memory = memory_of_a_prover(&keys)?;
    let (raw, raw_setup) = Raw::new(size)?;

    let (mut setup, mut wall, mut cpu) = (Paired::default(), Paired::default(), Paired::default());
    let mut first = Paired::default();
    let bytes = keys.to_bytes();
    let (mut verify, mut batch, mut bad_batch) = (Paired::default(), Paired::default(), Paired::default());
    setup.push(our_setup, raw_setup);
    let other = Run::honest(2, 100, 5);
    for round in 0..rounds {
        let seed = [u8::try_from(round % 256)?; 32];
        let ((proof, our_cpu), our_wall) = wall_seconds(|| cpu_seconds(|| prove(seed)));
        let proof = proof?;
        let ((raw_proof, raw_cpu), raw_wall) = wall_seconds(|| cpu_seconds(|| raw.prove(seed)));
        let raw_proof = raw_proof?;
        wall.push(our_wall, raw_wall);
        cpu.push(our_cpu, raw_cpu);
        // Keys that were just read: nothing of the circuit is there yet.
        let fresh = Groth16Prover::new(KeySet::from_bytes(&bytes)?.allow_insecure_dev())?;
        let (proof_again, seconds) = wall_seconds(|| fresh.prove(&run.statement, &run.witness, seed));
        if proof_again? != proof {
            return Err("two provers with one seed make two proofs".into());
        }
        first.push(seconds, raw_wall);

        let ours = milliseconds(|| Ok(verifier.verify(black_box(&run.statement), &proof)?))?;
        verify.push(ours, milliseconds(|| raw.verify(&raw_proof))?);
        let many = vec![(&run.statement, &proof); BATCH];
        let each =
            milliseconds(|| Ok(verifier.verify_batch(&many).into_iter().collect::<Result<(), _>>()?))?;
        #[expect(clippy::cast_precision_loss, reason = "sixty-four")]
        batch.push(each / BATCH as f64, ours);
        let bad = vec![(&other.statement, &proof); BATCH];
        let each = milliseconds(|| match verifier.verify_batch(&bad).iter().all(Result::is_err) {
            true => Ok(()),
            false => Err("a proof of another statement verifies".into()),
        })?;
        #[expect(clippy::cast_precision_loss, reason = "sixty-four")]
        bad_batch.push(each / BATCH as f64, ours);
    }
    let named = |what: &str| what.replace("PROFILE", profile.name());
    let lower = |pair: &Paired, name: &str, unit| pair.row(named(name), unit, Better::Lower, RAW);
    let (seconds, megabytes) = targets(profile);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = [constraints as f64];
    let mut rows = vec![
        Row::alone(named("PROFILE: size of the circuit"), "constraints", Better::Lower, &count),
        lower(&setup, "PROFILE: setup, all cores", "s wall"),
        lower(&wall, "PROFILE: prove, all cores", "s wall").target(Of::Ours, seconds),
        lower(&wall, "PROFILE: prove over raw, all cores", "s wall").target(Of::Ratio, 1.1),
        lower(&cpu, "PROFILE: prove over raw", "s CPU").target(Of::Ratio, 1.1),
        lower(&first, "PROFILE: the first proof over raw, all cores", "s wall"),
        lower(&verify, "PROFILE: verify, p50", "ms wall").target(Of::Ours, 3.0),
        batch
            .row(named("PROFILE: verify, each of a batch of 64"), "ms wall", Better::Lower, ONE)
            .target(Of::Ratio, 1.0 / 3.0),
        bad_batch.row(
            named("PROFILE: refuse, each of a batch of 64 bad ones"),
            "ms wall",
            Better::Lower,
            ONE,
        ),
    ];
    if !memory.is_empty() {
        let name = named("PROFILE: a process that only proves, at its peak");
        let row = Row::alone(name, "MB", Better::Lower, &memory);
        rows.push(match megabytes {
            Some(limit) => row.target(Of::Ours, limit),
            None => row,
        });
    }
    Ok(rows)
}

fn milliseconds(mut verify: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut times = Vec::with_capacity(VERIFICATIONS);
    for _ in 0..VERIFICATIONS {
        let (result, seconds) = wall_seconds(&mut verify);
        result?;
        times.push(seconds * 1e3);
    }
    Ok(median(&times))
}

/// Megabytes of resident memory at their peak; nothing where the kernel does not tell.
fn peak_megabytes<T>(work: impl FnOnce() -> T) -> Option<f64> {
    // Lets the kernel forget the peak so far (proc(5)).
    fs::write("/proc/self/clear_refs", "5").ok()?;
    work();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// ark-groth16 with a circuit of ours that proves nothing of use.
struct Raw {
    circuit: Synthetic,
    proving: ProvingKey<Bn254>,
    verifying: PreparedVerifyingKey<Bn254>,
    inputs: Vec<Fr>,
}

type RawProof = ark_groth16::Proof<Bn254>;

impl Raw {
    /// Also how many seconds its setup took.
    fn new(size: &Size) -> Result<(Self, f64), Failure> {
        let mut rng = StdRng::seed_from_u64(1);
        let circuit = Synthetic::new(size, &mut rng);
        let setup = || Groth16::<Bn254>::circuit_specific_setup(circuit.clone(), &mut rng);
        let (keys, seconds) = wall_seconds(setup);
        let (proving, verifying) = keys?;
        let verifying = ark_groth16::prepare_verifying_key(&verifying);
        let inputs = circuit.0.values.iter().rev().take(circuit.0.inputs).copied().collect();
        let raw = Self { circuit, proving, verifying, inputs };
        raw.verify(&raw.prove([0; 32])?)?;
        Ok((raw, seconds))
    }

    fn prove(&self, seed: [u8; 32]) -> Result<RawProof, Failure> {
        let mut rng = StdRng::from_seed(seed);
        Ok(Groth16::<Bn254>::prove(&self.proving, black_box(self.circuit.clone()), &mut rng)?)
    }

    fn verify(&self, proof: &RawProof) -> Result<(), Failure> {
        match Groth16::<Bn254>::verify_proof(&self.verifying, black_box(proof), &self.inputs)? {
            true => Ok(()),
            false => Err("the raw proof does not verify".into()),
        }
    }
}

/// Bits, then wires each of which is the product of two rows over wires before it.
#[derive(Clone)]
struct Synthetic(Arc<Shape>);

struct Shape {
    bits: usize,
    inputs: usize,
    /// Of the bits, of one wire more, and of the products, in order.
    values: Vec<Fr>,
    /// For each product its rows: coefficients and wires.
    rows: Vec<[Vec<(Fr, usize)>; 2]>,
}

impl Synthetic {
    fn new(size: &Size, rng: &mut StdRng) -> Self {
        let Size { profile, bits, terms, in_b } = *size;
        let inputs = profile.public_inputs();
        let products = gate_sizes(profile).total() - inputs - bits;
        let mut values: Vec<Fr> = (0..bits).map(|_| Fr::from(rng.gen_bool(0.5))).collect();
        values.push(Fr::rand(rng));
        let mut rows = Vec::with_capacity(products);
        for _ in 0..products {
            let [a, b] = terms.map(|terms| {
                let term = |_| (Fr::rand(rng), rng.gen_range(0..values.len()));
                (0..terms).map(term).collect::<Vec<_>>()
            });
            let in_b = |wire: usize| match in_b {
                InB::TwoOfThree => wire / 3 * 3 + wire % 3 % 2,
                InB::Bits => wire % bits,
            };
            let b: Vec<_> = b.into_iter().map(|(coefficient, wire)| (coefficient, in_b(wire))).collect();
            let sum = |row: &[(Fr, usize)]| {
                let terms =
                    row.iter().filter_map(|(coefficient, wire)| Some(*coefficient * values.get(*wire)?));
                terms.fold(Fr::zero(), |sum, term| sum + term)
            };
            values.push(sum(&a) * sum(&b));
            rows.push([a, b]);
        }
        Self(Arc::new(Shape { bits, inputs, values, rows }))
    }
}

impl ConstraintSynthesizer<Fr> for Synthetic {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let shape = &*self.0;
        let mut wires = Vec::with_capacity(shape.values.len());
        for value in &shape.values {
            wires.push(cs.new_witness_variable(|| Ok(*value))?);
        }
        let row = |terms: &[(Fr, usize)]| {
            let term = |(coefficient, wire): &(Fr, usize)| Some((*coefficient, *wires.get(*wire)?));
            LinearCombination::from_sum_coeff_vars(&terms.iter().filter_map(term).collect::<Vec<_>>())
        };
        for bit in wires.iter().take(shape.bits) {
            let not = || lc![(Fr::one(), Variable::One), (-Fr::one(), *bit)];
            cs.enforce_r1cs_constraint(|| lc![*bit], not, || lc![])?;
        }
        for ([a, b], product) in shape.rows.iter().zip(wires.iter().skip(shape.bits + 1)) {
            cs.enforce_r1cs_constraint(|| row(a), || row(b), || lc![*product])?;
        }
        for (value, wire) in shape.values.iter().zip(&wires).rev().take(shape.inputs) {
            let input = cs.new_input_variable(|| Ok(*value))?;
            cs.enforce_r1cs_constraint(|| lc![*wire], || lc![Variable::One], || lc![input])?;
        }
        Ok(())
    }
}
