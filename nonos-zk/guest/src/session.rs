use core::fmt;

use nonos_zk::groth16::{Groth16Prover, KeySet};
use nonos_zk::{ProveError, ProveRequest, Prover as _};
use zeroize::Zeroizing;

/// How a call ended, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// The answer is there.
    Done = 0,
    /// The input is not what the call takes; the host's fault.
    Input = 1,
    /// The keys cannot be used.
    Keys = 2,
    /// No keys are loaded.
    NoKeys = 3,
    /// The witness does not satisfy the statement.
    Unsatisfied = 4,
    /// The prover failed.
    Engine = 5,
}

/// One prover: input goes in, a call works on it, output is read.
#[derive(Default)]
pub struct Session {
    /// Wiped by the call that takes it.
    input: Zeroizing<Vec<u8>>,
    output: Vec<u8>,
    prover: Option<Groth16Prover>,
}

impl Session {
    /// Longest input, in bytes: that of a key set, the longest of all.
    pub const MAX_INPUT_BYTES: usize = KeySet::MAX_BYTES;

    /// Makes room for input of a length, all zero, and drops what was there; `None` if it is too much.
    pub fn input(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > Self::MAX_INPUT_BYTES {
            return None;
        }
        self.input = Zeroizing::new(vec![0; len]);
        Some(&mut self.input)
    }

    /// Takes the input as the bytes of a key set.
    pub fn load(&mut self) -> Status {
        let input = core::mem::take(&mut self.input);
        // Whose keys they are and whether they are insecure was for the host to say before it handed
        // them over; a module has no better judgement of its caller than the caller.
        let prover = KeySet::from_bytes(&input).map(KeySet::allow_insecure_dev).and_then(Groth16Prover::new);
        match prover {
            Ok(prover) => {
                self.prover = Some(prover);
                self.answer(Status::Done, Vec::new())
            }
            Err(error) => self.fail(Status::Keys, &error),
        }
    }

    /// Takes the input as a [`ProveRequest`] and proves it.
    pub fn prove(&mut self) -> Status {
        let input = core::mem::take(&mut self.input);
        let request = match ProveRequest::from_secret_bytes(&input) {
            Ok(request) => request,
            Err(error) => return self.fail(Status::Input, &error),
        };
        drop(input);
        let Some(prover) = &self.prover else { return self.fail(Status::NoKeys, &"no keys are loaded") };
        let ProveRequest { statement, witness, seed } = &request;
        match prover.prove(statement, witness, **seed) {
            Ok(proof) => self.answer(Status::Done, proof.as_bytes().to_vec()),
            Err(ProveError::Unsatisfied(gate)) => self.fail(Status::Unsatisfied, &gate),
            Err(error) => self.fail(Status::Engine, &error),
        }
    }

    /// The answer of the last call: a proof, or the text of an error.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    fn answer(&mut self, status: Status, output: Vec<u8>) -> Status {
        self.output = output;
        status
    }

    fn fail(&mut self, status: Status, error: &dyn fmt::Display) -> Status {
        self.answer(status, error.to_string().into_bytes())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("prover", &self.prover).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use nonos_zk::groth16::Groth16Verifier;
    use nonos_zk::testing::Run;
    use nonos_zk::{Profile, Proof, Verifier as _};

    use super::*;

    fn give(session: &mut Session, bytes: &[u8]) {
        session.input(bytes.len()).expect("below the limit").copy_from_slice(bytes);
    }

    #[test]
    fn proves_what_it_is_given_and_says_why_not() {
        let mut session = Session::default();
        let run = Run::honest(5, 3, 1);
        let request = ProveRequest::to_secret_bytes(&run.statement, &run.witness, &[7; 32]).expect("short");

        give(&mut session, &request);
        assert_eq!(session.prove(), Status::NoKeys);
        give(&mut session, b"no keys");
        assert_eq!(session.load(), Status::Keys);
        assert_eq!(session.output(), b"key bytes are corrupt");

        let keys = KeySet::dev_setup(Profile::Lite).expect("a setup");
        give(&mut session, &keys.to_bytes());
        assert_eq!(session.load(), Status::Done);
        give(&mut session, &request);
        assert_eq!(session.prove(), Status::Done);
        let proof = Proof::new(Profile::Lite, session.output().to_vec()).expect("below the limit");
        let verifier =
            Groth16Verifier::new(keys.verifying_key().clone().allow_insecure_dev()).expect("allowed");
        assert_eq!(verifier.verify(&run.statement, &proof), Ok(()));

        assert_eq!(session.prove(), Status::Input, "a request is taken once");
        give(&mut session, request.get(1..).expect("longer"));
        assert_eq!(session.prove(), Status::Input);
        let mut other = run.statement.clone();
        other.policy.gas_limit = 0;
        let request = ProveRequest::to_secret_bytes(&other, &run.witness, &[7; 32]).expect("short");
        give(&mut session, &request);
        assert_eq!(session.prove(), Status::Unsatisfied);
        assert_eq!(session.output(), b"state gate: gas over the limit");
        assert!(session.input(Session::MAX_INPUT_BYTES + 1).is_none());
    }
}
