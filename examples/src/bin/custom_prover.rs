//! Brings a proof system of its own: a notary that checks the witness and signs the statement.
//!
//! What such a proof proves: that the holder of the notary's key says that it saw a witness which
//! passes every gate. It hides the witness from all but the notary, and whoever has the
//! notary's key can sign what it likes. A laboratory may accept that; a mesh of strangers cannot.
//!
//! Run with `cargo run -p nonos-examples --bin custom_prover`. It prints:
//! ```text
//! checked   the contracts of Prover and Verifier hold
//! proved    in 64 bytes
//! refused   the proof for another limit: proof does not verify
//! started   22388cb0
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use nonos_identity::{Digest, Domain, Identity, PublicKey, Signature, SigningKey, wire};
use nonos_node::{Config, Node};
use nonos_zk::testing::{Run, check_prover};
use nonos_zk::{
    Profile, Proof, ProveError, Prover, Statement, Verifier, VerifyError, VerifyingKeyId, Witness,
};

/// Domains of this program: no other signature can pass for a notary's.
const SIGNATURE: Domain = Domain::new("nonos/example/notary/v1");
const KEY_ID: Domain = Domain::new("nonos/example/notary-id/v1");

// ANCHOR: prover
/// Checks witnesses and signs what holds.
struct Notary(SigningKey);

/// Believes one notary.
struct NotaryVerifier(PublicKey);

fn id_of(key: &PublicKey) -> VerifyingKeyId {
    VerifyingKeyId::from_digest(Digest::of(KEY_ID, &[key.as_bytes()]))
}

impl Prover for Notary {
    fn profile(&self) -> Profile {
        // The gates are those of `Lite`; the verifying key tells a notary's word from a proof.
        Profile::Lite
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        id_of(&self.0.public())
    }

    fn prove(&self, statement: &Statement, witness: &Witness, _seed: [u8; 32]) -> Result<Proof, ProveError> {
        witness.check(statement)?;
        let signature = self.0.sign(SIGNATURE, &statement.network, &wire::to_bytes(statement));
        Ok(Proof::new(self.profile(), signature.as_bytes().to_vec())?)
    }
}

impl Verifier for NotaryVerifier {
    fn profile(&self) -> Profile {
        Profile::Lite
    }

    fn verifying_key_id(&self) -> VerifyingKeyId {
        id_of(&self.0)
    }

    fn verify(&self, statement: &Statement, proof: &Proof) -> Result<(), VerifyError> {
        if proof.profile() != self.profile() {
            return Err(VerifyError::Profile);
        }
        let bytes: [u8; 64] = proof.as_bytes().try_into().map_err(|_| VerifyError::Malformed)?;
        self.0
            .verify(SIGNATURE, &statement.network, &wire::to_bytes(statement), &Signature::from_bytes(bytes))
            .map_err(|_| VerifyError::Refused)
    }
}
// ANCHOR_END: prover

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: check
    let key = SigningKey::from_seed(&[5; 32]);
    let verifier = NotaryVerifier(key.public());
    let notary = Notary(key);
    // Every field of the statement is bound, every gate is enforced.
    check_prover(&notary, &verifier);
    println!("checked   the contracts of Prover and Verifier hold");
    // ANCHOR_END: check

    // ANCHOR: refusal
    let run = Run::honest(1, 100, 0);
    let proof = notary.prove(&run.statement, &run.witness, [0; 32])?;
    println!("proved    in {} bytes", proof.as_bytes().len());
    let mut more = run.statement.clone();
    more.policy.gas_limit += 1;
    match verifier.verify(&more, &proof) {
        Err(error @ VerifyError::Refused) => println!("refused   the proof for another limit: {error}"),
        other => return Err(format!("a proof of another statement counts: {other:?}").into()),
    }
    // ANCHOR_END: refusal

    // ANCHOR: node
    // A node that proves and verifies this way needs no proving keys of Groth16.
    let folder = std::env::temp_dir().join(format!("nonos-custom-prover-{}", std::process::id()));
    let node = Node::builder(Config::default(), Identity::from_seed(&[7; 64]))
        .data_dir(&folder)
        .proofs(Arc::new(notary), Arc::new(verifier))
        .start()
        .await?;
    println!("started   {}", node.id().short());
    node.stop().await;
    // ANCHOR_END: node
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
