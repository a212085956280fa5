use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_identity::{Digest, Envelope, Epoch, NetworkId};
use nonos_zk::groth16::{Groth16Verifier, Provenance};
use nonos_zk::{Receipt, Verifier as _, VerifyingKeyId};
use serde::Serialize;

use super::{ReceiptFile, verifying_key};
use crate::cli::{CliResult, print_json};

/// Checks a receipt offline: which run it is about, who signed it, and its proof.
///
/// Exit status 0 if every check holds, 1 if one does not. Whether its nonce and nullifier are fresh, and
/// whether its policy is the capsule's, only the node that ordered the run can say.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:  nonos zk verify run.receipt --verifying-key lite.vk --key-id 41c5...\n           \
    nonos zk verify disclosures/3f0a.disclosure --verifying-key lite.vk --network my-mesh"
)]
pub(in crate::cli) struct Verify {
    /// The receipt, or a disclosure with one
    receipt: PathBuf,
    /// The verifying key, as `nonos zk ceremony verify` writes it
    #[arg(long, value_name = "FILE")]
    verifying_key: PathBuf,
    /// The id that the verifying key must have; without it, whoever gave you the file chose the key
    #[arg(long, value_name = "ID")]
    key_id: Option<Digest>,
    /// Name of the mesh the receipt must be for
    #[arg(long, default_value = "nonos-local", value_name = "NAME")]
    network: String,
    /// Root of the tree of operators that the prover must be in, in hex
    #[arg(long, value_name = "ROOT")]
    root: Option<Digest>,
    /// Accept a verifying key of the development setup, for which anybody can forge proofs
    #[arg(long)]
    allow_insecure_dev_keys: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One check and how it went; `None` if it was not asked for.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    holds: Option<bool>,
    detail: String,
}

fn check(name: &'static str, outcome: Result<String, String>) -> Check {
    let (holds, detail) = match outcome {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    Check { name, holds: Some(holds), detail }
}

fn expect(holds: bool, detail: String) -> Result<String, String> {
    if holds { Ok(detail) } else { Err(detail) }
}

impl Verify {
    pub(super) fn run(self) -> CliResult {
        let receipt = ReceiptFile::read(&self.receipt)?;
        let checks = self.checks(&receipt)?;
        let holds = checks.iter().all(|check| check.holds != Some(false));
        let statement = &receipt.body.statement;
        if self.json {
            print_json(&serde_json::json!({
                "holds": holds,
                "checks": checks,
                "capsule": statement.capsule_id,
                "exec_hash": statement.exec_hash,
                "epoch": statement.epoch,
                "nullifier": statement.nullifier.to_string(),
                "timestamp": receipt.body.timestamp,
            }))?;
        } else {
            println!("capsule   {}", statement.capsule_id);
            println!("run       {}", statement.exec_hash);
            println!("receipt   {}", statement.nullifier);
            for Check { name, holds, detail } in &checks {
                let verdict = match holds {
                    Some(true) => "holds",
                    Some(false) => "FAILS",
                    None => "-",
                };
                println!("{verdict:<6} {name:<14} {detail}");
            }
        }
        Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn checks(&self, receipt: &ReceiptFile) -> Result<Vec<Check>, Box<dyn std::error::Error>> {
        let mut key = verifying_key(&self.verifying_key)?;
        if self.allow_insecure_dev_keys {
            key = key.allow_insecure_dev();
        }
        let (body, statement) = (&receipt.body, &receipt.body.statement);
        let origin = match key.provenance() {
            Provenance::Ceremony { transcript } => {
                Ok(format!("of the ceremony with transcript {}", Digest::from_bytes(transcript)))
            }
            Provenance::InsecureDev { .. } if self.allow_insecure_dev_keys => {
                Ok("INSECURE: of the development setup; allowed by you".to_owned())
            }
            _ => Err("of the insecure development setup: anybody can forge proofs".to_owned()),
        };
        let pinned = self.key_id.map(VerifyingKeyId::from_digest);
        let network = NetworkId::from_name(&self.network);
        let root = statement.id_root.to_string();
        let proof = Groth16Verifier::new(key.clone())
            .map_err(|error| error.to_string())
            .and_then(|verifier| verifier.verify(statement, &body.proof).map_err(|error| error.to_string()));
        Ok(vec![
            check("setup", origin),
            match pinned {
                Some(id) => check("key id", expect(id == key.id(), format!("the key has {}", key.id()))),
                None => Check {
                    name: "key id",
                    holds: None,
                    detail: format!("{}; compare it, or give --key-id", key.id()),
                },
            },
            check(
                "key",
                expect(body.verifying_key == key.id(), format!("the receipt is for {}", body.verifying_key)),
            ),
            check("network", expect(statement.network == network, format!("asked for: {}", self.network))),
            check("signature", self.signature(receipt, &network)),
            check(
                "time",
                expect(
                    body.timestamp >= statement.epoch.start() && Epoch::at(body.timestamp) >= statement.epoch,
                    format!("made at {}, run of epoch {}", body.timestamp, statement.epoch),
                ),
            ),
            match &self.root {
                Some(expected) => check(
                    "operators",
                    expect(statement.id_root.as_bytes() == expected.as_bytes(), format!("root {root}")),
                ),
                None => Check {
                    name: "operators",
                    holds: None,
                    detail: format!("root {root}; compare it, or give --root"),
                },
            },
            check("proof", proof.map(|()| "state, execution and identity gate".to_owned())),
        ])
    }

    /// The one-run execution key signed it, at the time it says.
    fn signature(&self, receipt: &ReceiptFile, network: &NetworkId) -> Result<String, String> {
        let body = &receipt.body;
        let parsed = Envelope::parse(&receipt.bytes).map_err(|error| error.to_string())?;
        let signed = parsed
            .check_signed(nonos_zk::domains::RECEIPT, network, Receipt::KIND, body.timestamp)
            .map_err(|error| error.to_string())?;
        let signer = signed.header().key;
        expect(
            signer == body.statement.exec_key,
            format!("by {}, the execution key of the run", signer.node_id().short()),
        )
    }
}
