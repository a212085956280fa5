//! Receipts beside raw ark-groth16 on a synthetic circuit of the same size and density.

use std::fs;
use std::hint::black_box;
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
use nonos_zk::groth16::{Groth16Prover, Groth16Verifier, KeySet};
use nonos_zk::testing::Run;
use nonos_zk::{Profile, Prover as _, Verifier as _};

use crate::Failure;
use crate::report::{Better, Of, Paired, Report, Row, Unmeasured, cpu_seconds, median, wall_seconds};

/// Constraints of `Lite`; its crate pins the number.
const CONSTRAINTS: usize = 7170;
const PUBLIC_INPUTS: usize = 7;
/// Wires of `Lite` that hold a bit; multiplying by them is nearly free.
const BITS: usize = 350;
/// Constraints of the form `row * row = new wire`.
const PRODUCTS: usize = CONSTRAINTS - PUBLIC_INPUTS - BITS;
/// Terms of a row of matrix A and of matrix B: `Lite` has 64 075 and 119 996 in all.
const TERMS: [usize; 2] = [9, 17];
/// Of three wires, those that occur in matrix B; the query in G2 is as long as there are such. `Lite`
/// has 4 873 of 7 132.
const IN_B_OF_THREE: usize = 2;
/// Verifications of which a round takes the median.
const VERIFICATIONS: usize = 20;

const RAW: &str = "raw ark-groth16 0.6, synthetic circuit of 7170 constraints";

const ONE: &str = "the same verifier, one proof";
/// Proofs of a batch.
const BATCH: usize = 64;

const UNMEASURED: &[Unmeasured] = &[Unmeasured {
    target: "receipt proof, `Full` <= 3.5 s and 400 MB",
    reason: "the profile is not implemented",
}];

pub(crate) fn compare(rounds: usize) -> Result<Report, Failure> {
    let keys = KeySet::dev_setup(Profile::Lite)?.allow_insecure_dev();
    let run = Run::honest(1, 100, 5);
    let prover = Groth16Prover::new(keys.clone())?;
    let verifier = Groth16Verifier::new(keys.verifying_key().clone())?;
    let raw = Raw::new()?;

    let (mut wall, mut cpu, mut verify) = (Paired::default(), Paired::default(), Paired::default());
    let (mut batch, mut bad_batch, mut memory) = (Paired::default(), Paired::default(), Vec::new());
    let other = Run::honest(2, 100, 5);
    for round in 0..rounds {
        let seed = [u8::try_from(round % 256)?; 32];
        let prove = || prover.prove(black_box(&run.statement), &run.witness, seed);
        let ((proof, our_cpu), our_wall) = wall_seconds(|| cpu_seconds(prove));
        let proof = proof?;
        let prove_raw = || raw.prove(seed);
        let ((raw_proof, raw_cpu), raw_wall) = wall_seconds(|| cpu_seconds(prove_raw));
        let raw_proof = raw_proof?;
        wall.push(our_wall, raw_wall);
        cpu.push(our_cpu, raw_cpu);

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

        memory.extend(peak_megabytes(prove));
    }
    let lower = |pair: &Paired, name: &str, unit| pair.row(name, unit, Better::Lower, RAW);
    let mut rows = vec![
        lower(&wall, "prove Lite, all cores", "s wall").target(Of::Ours, 0.7),
        lower(&wall, "prove Lite over raw, all cores", "s wall").target(Of::Ratio, 1.1),
        lower(&cpu, "prove Lite over raw", "s CPU").target(Of::Ratio, 1.1),
        lower(&verify, "verify Lite, p50", "ms wall").target(Of::Ours, 3.0),
        batch
            .row("verify Lite, each of a batch of 64", "ms wall", Better::Lower, ONE)
            .target(Of::Ratio, 1.0 / 3.0),
        bad_batch.row("refuse Lite, each of a batch of 64 bad ones", "ms wall", Better::Lower, ONE),
    ];
    if !memory.is_empty() {
        let name = "this process at the peak of a proof of Lite";
        rows.push(Row::alone(name, "MB", Better::Lower, &memory));
    }
    Ok(Report::new(rows, UNMEASURED))
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
    fn new() -> Result<Self, Failure> {
        let mut rng = StdRng::seed_from_u64(1);
        let circuit = Synthetic::new(&mut rng);
        let (proving, verifying) = Groth16::<Bn254>::circuit_specific_setup(circuit.clone(), &mut rng)?;
        let verifying = ark_groth16::prepare_verifying_key(&verifying);
        let inputs = circuit.0.values.iter().rev().take(PUBLIC_INPUTS).copied().collect();
        let raw = Self { circuit, proving, verifying, inputs };
        raw.verify(&raw.prove([0; 32])?)?;
        Ok(raw)
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
    /// Of the bits, of one wire more, and of the products, in order.
    values: Vec<Fr>,
    /// For each product its rows: coefficients and wires.
    rows: Vec<[Vec<(Fr, usize)>; 2]>,
}

impl Synthetic {
    fn new(rng: &mut StdRng) -> Self {
        let mut values: Vec<Fr> = (0..BITS).map(|_| Fr::from(rng.gen_bool(0.5))).collect();
        values.push(Fr::rand(rng));
        let mut rows = Vec::with_capacity(PRODUCTS);
        for _ in 0..PRODUCTS {
            let [a, b] = TERMS.map(|terms| {
                let term = |_| (Fr::rand(rng), rng.gen_range(0..values.len()));
                (0..terms).map(term).collect::<Vec<_>>()
            });
            let in_b = |wire: usize| wire / 3 * 3 + wire % 3 % IN_B_OF_THREE;
            let b: Vec<_> = b.into_iter().map(|(coefficient, wire)| (coefficient, in_b(wire))).collect();
            let sum = |row: &[(Fr, usize)]| {
                let terms =
                    row.iter().filter_map(|(coefficient, wire)| Some(*coefficient * values.get(*wire)?));
                terms.fold(Fr::zero(), |sum, term| sum + term)
            };
            values.push(sum(&a) * sum(&b));
            rows.push([a, b]);
        }
        Self(Arc::new(Shape { values, rows }))
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
        for bit in wires.iter().take(BITS) {
            let not = || lc![(Fr::one(), Variable::One), (-Fr::one(), *bit)];
            cs.enforce_r1cs_constraint(|| lc![*bit], not, || lc![])?;
        }
        for ([a, b], product) in shape.rows.iter().zip(wires.iter().skip(BITS + 1)) {
            cs.enforce_r1cs_constraint(|| row(a), || row(b), || lc![*product])?;
        }
        for (value, wire) in shape.values.iter().zip(&wires).rev().take(PUBLIC_INPUTS) {
            let input = cs.new_input_variable(|| Ok(*value))?;
            cs.enforce_r1cs_constraint(|| lc![*wire], || lc![Variable::One], || lc![input])?;
        }
        Ok(())
    }
}
