//! Verification on threads of its own, within a budget.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::proof::{Profile, Proof, VerifyingKeyId};
use crate::prover::{Verifier, VerifyError};
use crate::statement::Statement;

/// How a [`VerifierPool`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Threads that verify.
    pub threads: NonZeroUsize,
    /// Most proofs that wait or are being verified. More are refused at once with
    /// [`VerifyError::Busy`]: a flood of receipts costs their senders a retry and us no memory.
    pub proofs_max: usize,
    /// Most proofs that a thread takes at a time and checks by one equation.
    pub batch_max: NonZeroUsize,
}

impl Default for PoolConfig {
    /// A thread for each core but one, at most 4; 1 024 proofs, about a second of one core; batches of 64.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let of = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Self { threads: of((cores - 1).clamp(1, 4)), proofs_max: 1024, batch_max: of(64) }
    }
}

/// A verifier that puts what many threads ask of it together: whatever waits while its threads are
/// busy is verified as a batch, which costs a third for each.
///
/// Dropping it verifies what waits, then ends its threads.
pub struct VerifierPool {
    verifier: Arc<dyn Verifier>,
    desk: Arc<Desk>,
    threads: Vec<JoinHandle<()>>,
}

struct Desk {
    proofs_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Those that wait, and those that a thread has taken.
    proofs: usize,
    is_closing: bool,
}

struct Job {
    statement: Statement,
    proof: Proof,
    verdict: SyncSender<Result<(), VerifyError>>,
}

impl VerifierPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`std::io::Error`] if the system gives no thread.
    pub fn new(verifier: Arc<dyn Verifier>, config: PoolConfig) -> std::io::Result<Self> {
        let desk = Arc::new(Desk {
            proofs_max: config.proofs_max,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut pool = Self { verifier, desk, threads: Vec::new() };
        for _ in 0..config.threads.get() {
            let (desk, verifier) = (pool.desk.clone(), pool.verifier.clone());
            let work = move || while desk.work(&*verifier, config.batch_max) {};
            pool.threads.push(thread::Builder::new().name("verify".into()).spawn(work)?);
        }
        Ok(pool)
    }

    /// Proofs that wait or are being verified.
    #[must_use]
    pub fn load(&self) -> usize {
        self.desk.state().proofs
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies one batch; whether to go on.
    fn work(&self, verifier: &dyn Verifier, batch_max: NonZeroUsize) -> bool {
        let taken: Vec<Job> = {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.is_closing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let count = state.waiting.len().min(batch_max.get());
            state.waiting.drain(..count).collect()
        };
        // Given back whatever happens below.
        let _place = Place { desk: self, proofs: taken.len() };
        let batch: Vec<_> = taken.iter().map(|job| (&job.statement, &job.proof)).collect();
        // A panic ends no thread; those whose proofs it was about get no verdict.
        let verdicts = catch_unwind(AssertUnwindSafe(|| verifier.verify_batch(&batch))).unwrap_or_default();
        for (job, verdict) in taken.iter().zip(verdicts) {
            // Who no longer listens needs no answer.
            let _ = job.verdict.send(verdict);
        }
        !taken.is_empty()
    }
}

/// A share of the budget.
struct Place<'a> {
    desk: &'a Desk,
    proofs: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.desk.state().proofs -= self.proofs;
    }
}

impl Verifier for VerifierPool {
    fn profile(&self) -> Profile {
        self.verifier.profile()
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        self.verifier.verifying_key_id()
    }

    fn verify(&self, statement: &Statement, proof: &Proof) -> Result<(), VerifyError> {
        let (verdict, answer) = sync_channel(1);
        {
            let mut state = self.desk.state();
            if state.proofs >= self.desk.proofs_max {
                return Err(VerifyError::Busy);
            }
            state.proofs += 1;
            state.waiting.push_back(Job { statement: statement.clone(), proof: proof.clone(), verdict });
        }
        self.desk.changed.notify_one();
        answer.recv().unwrap_or(Err(VerifyError::Busy))
    }

    /// As the caller's own batch, on the caller's thread.
    fn verify_batch(&self, batch: &[(&Statement, &Proof)]) -> Vec<Result<(), VerifyError>> {
        self.verifier.verify_batch(batch)
    }
}

impl Drop for VerifierPool {
    fn drop(&mut self) {
        self.desk.state().is_closing = true;
        self.desk.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Its panic, if there was one, has been told by the runtime.
            let _ = thread.join();
        }
    }
}

impl core::fmt::Debug for VerifierPool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VerifierPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}
