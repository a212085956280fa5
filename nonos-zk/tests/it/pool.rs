//! Verification on threads of its own: verdicts, batches, and the budget.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use nonos_identity::Digest;
use nonos_zk::groth16::{PoolConfig, VerifierPool};
use nonos_zk::testing::{Run, check_prover};
use nonos_zk::{Profile, Proof, Prover as _, Statement, Verifier, VerifyError, VerifyingKeyId};

use crate::{prover, verifier};

/// Accepts the proof `[1]` and refuses all others, after a signal; panics on an empty one.
#[derive(Default)]
struct Gated {
    /// Held while nobody may go on.
    gate: Mutex<()>,
    batches: Mutex<Vec<usize>>,
    entered: AtomicUsize,
}

impl Verifier for Gated {
    fn profile(&self) -> Profile {
        Profile::Lite
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        VerifyingKeyId::from_digest(Digest::from_bytes([1; 32]))
    }

    fn verify(&self, _: &Statement, proof: &Proof) -> Result<(), VerifyError> {
        match proof.as_bytes() {
            [] => panic!("a verifier with a fault"),
            [1] => Ok(()),
            _ => Err(VerifyError::Refused),
        }
    }

    fn verify_batch(&self, batch: &[(&Statement, &Proof)]) -> Vec<Result<(), VerifyError>> {
        self.entered.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock());
        self.batches.lock().unwrap().push(batch.len());
        batch.iter().map(|(statement, proof)| self.verify(statement, proof)).collect()
    }
}

fn one_thread(proofs_max: usize, batch_max: usize) -> PoolConfig {
    let of = |count| NonZeroUsize::new(count).unwrap();
    PoolConfig { threads: of(1), proofs_max, batch_max: of(batch_max) }
}

fn proof(bytes: &[u8]) -> Proof {
    Proof::new(Profile::Lite, bytes.to_vec()).unwrap()
}

#[test]
fn a_pool_keeps_the_contract_of_its_verifier() {
    let pool = VerifierPool::new(Arc::new(verifier().clone()), PoolConfig::default()).unwrap();
    check_prover(prover(), &pool);
}

#[test]
fn many_threads_get_each_their_own_verdict() {
    let (run, other) = (Run::honest(51, 2, 0), Run::honest(52, 2, 0));
    let good = prover().prove(&run.statement, &run.witness, [1; 32]).unwrap();
    let pool = VerifierPool::new(Arc::new(verifier().clone()), PoolConfig::default()).unwrap();
    let start = Barrier::new(16);
    thread::scope(|scope| {
        for number in 0..16 {
            let (pool, run, other, good, start) = (&pool, &run, &other, &good, &start);
            scope.spawn(move || {
                start.wait();
                let (statement, expected) = match number % 2 {
                    0 => (&run.statement, Ok(())),
                    _ => (&other.statement, Err(VerifyError::Refused)),
                };
                assert_eq!(pool.verify(statement, good), expected);
            });
        }
    });
}

/// While the only thread is held: as many as the budget wait and all others are refused at once; what
/// waited is verified together.
#[test]
fn what_waits_is_a_batch_and_what_is_too_much_is_refused() {
    let gated = Arc::new(Gated::default());
    let pool = VerifierPool::new(gated.clone(), one_thread(5, 3)).unwrap();
    let statement = Run::honest(53, 1, 0).statement;
    let held = gated.gate.lock().unwrap();
    thread::scope(|scope| {
        let (pool, statement) = (&pool, &statement);
        let ask = move |bytes: &'static [u8]| scope.spawn(move || pool.verify(statement, &proof(bytes)));
        let first = ask(&[1]);
        while gated.entered.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let rest: Vec<_> = [&[1], &[2], &[1], &[2]].into_iter().map(|bytes| ask(bytes)).collect();
        // One is with the thread and four wait.
        while pool.load() < 5 {
            thread::yield_now();
        }
        assert_eq!(pool.verify(statement, &proof(&[1])), Err(VerifyError::Busy));
        drop(held);
        assert_eq!(first.join().unwrap(), Ok(()));
        let verdicts: Vec<_> = rest.into_iter().map(|thread| thread.join().unwrap()).collect();
        let refused = Err(VerifyError::Refused);
        assert_eq!(verdicts, [Ok(()), refused, Ok(()), refused]);
    });
    let batches = gated.batches.lock().unwrap().clone();
    assert_eq!((batches[0], batches.iter().max()), (1, Some(&3)), "{batches:?}");
    // Their places are free again.
    assert_eq!(pool.verify(&statement, &proof(&[1])), Ok(()));
}

#[test]
fn a_verifier_that_panics_gives_no_verdict_and_takes_nobody_along() {
    let pool = VerifierPool::new(Arc::new(Gated::default()), one_thread(1, 1)).unwrap();
    let statement = Run::honest(54, 1, 0).statement;
    assert_eq!(pool.verify(&statement, &proof(&[])), Err(VerifyError::Busy));
    // The place is given back a moment after the answer.
    while pool.load() > 0 {
        thread::yield_now();
    }
    assert_eq!(pool.verify(&statement, &proof(&[1])), Ok(()));
}
