use std::collections::BTreeMap;

use nonos_identity::{Digest, NodeId, WideDigest};
use nonos_zk::groth16::gate_sizes;
use serde::Serialize;

use crate::event::{Circuit, Event};

/// What a demonstration found, as it is printed with `--json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every node with the part it played.
    pub nodes: Vec<NodeView>,
    /// The capsule that was run.
    pub capsule_id: Option<WideDigest>,
    /// The hash that binds the whole run.
    pub exec_hash: Option<WideDigest>,
    /// How the run ended.
    pub status: Option<String>,
    /// Standard output of the capsule.
    pub output: Option<String>,
    /// Gas used.
    pub gas: Option<u64>,
    /// Checkpoints in the chain.
    pub checkpoints: Option<u32>,
    /// Circuits built, in order.
    pub circuits: Vec<CircuitView>,
    /// Circuits that were lost and built anew.
    pub rebuilt: Vec<Rebuilt>,
    /// The relay that was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub killed: Option<String>,
    /// The proof.
    pub receipt: Option<ReceiptView>,
    /// What the proof shows, gate by gate.
    pub gates: BTreeMap<&'static str, GateView>,
    /// Nodes whose own check of the receipt held.
    pub verified_by: Vec<String>,
    /// Observer, peer, score before and after in thousandths.
    pub trust: BTreeMap<String, BTreeMap<String, TrustView>>,
    /// Who owes and who is owed.
    pub ledger: LedgerView,
    /// What honest nodes refused.
    pub refused: Vec<Refusal>,
    /// Whether all living honest nodes ended with equal state digests.
    pub digests_converged: bool,
    /// Milliseconds per phase, in order.
    pub elapsed_ms: Phases,
    /// Why the capsule did not do its work, if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Milliseconds per phase, in the order of the phases.
#[derive(Clone, Debug, Default)]
pub struct Phases(pub Vec<(&'static str, u64)>);

impl Serialize for Phases {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A node of the demonstration.
#[derive(Clone, Debug, Serialize)]
pub struct NodeView {
    /// Its name here.
    pub name: String,
    /// Its id.
    pub id: NodeId,
    /// Its part.
    pub role: String,
    /// Whether it answered at the end.
    pub alive: bool,
}

/// A circuit with names in place of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CircuitView {
    /// Whose circuit it is.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// Number of relays.
    pub hops: usize,
    /// The relays, guard first.
    pub relays: Vec<String>,
    /// The node at its end.
    pub destination: String,
}

/// A lost circuit and its successor.
#[derive(Clone, Debug, Serialize)]
pub struct Rebuilt {
    /// The relay that the client blamed.
    pub blamed: Option<String>,
    /// The new circuit.
    pub circuit: CircuitView,
}

/// The receipt in short.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiptView {
    /// Profile of the circuit.
    pub profile: String,
    /// Bytes of the proof.
    pub proof_bytes: usize,
    /// Milliseconds to make it.
    pub prove_ms: u64,
    /// Its id.
    pub nullifier: Digest,
}

/// A gate of the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GateView {
    /// Whether the circuit of this profile has it, and others than the prover verified the proof.
    pub proven: bool,
    /// Its share of the circuit.
    pub constraints: usize,
}

/// A score before and after.
#[derive(Clone, Debug, Serialize)]
pub struct TrustView {
    /// Thousandths, before the capsule was published.
    pub before: u32,
    /// Thousandths, at the end.
    pub after: u32,
    /// The state at the end.
    pub state: String,
    /// What the score is made of.
    pub explain: Vec<String>,
}

/// The ledgers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LedgerView {
    /// Unit of every amount.
    pub unit: &'static str,
    /// Each node's position in its own journal.
    pub balances: BTreeMap<String, i64>,
    /// Their sum: zero, because each fee stands in two journals with opposite signs.
    pub sum: i64,
    /// Whether every journal's chain holds.
    pub chain_ok: bool,
    /// Every account of every journal.
    pub journals: BTreeMap<String, BTreeMap<String, i64>>,
}

/// One refusal by one honest node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// Who refused.
    pub by: String,
    /// The check that caught it.
    pub check: String,
    /// What was refused.
    pub what: String,
    /// Who had sent it.
    pub culprit: String,
}

/// Names of nodes by id.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<NodeId, String>);

impl Names {
    pub(super) fn insert(&mut self, id: NodeId, name: String) {
        self.0.insert(id, name);
    }

    pub(super) fn of(&self, id: &NodeId) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| id.short())
    }

    fn circuit(&self, owner: &str, circuit: &Circuit) -> CircuitView {
        CircuitView {
            owner: owner.into(),
            purpose: circuit.purpose.clone(),
            hops: circuit.relays.len(),
            relays: circuit.relays.iter().map(|id| self.of(id)).collect(),
            destination: self.of(&circuit.destination),
        }
    }
}

impl Report {
    /// Says what the receipt shows, once it is known who verified it.
    pub(super) fn show_gates(&mut self) {
        let profile = self.receipt.as_ref().and_then(|receipt| receipt.profile.parse().ok());
        let Some(sizes) = profile.map(gate_sizes) else { return };
        let is_verified = !self.verified_by.is_empty();
        let gates = [("hash", sizes.hash), ("state", sizes.state), ("identity", sizes.identity)];
        let view = |constraints| GateView { proven: is_verified && constraints > 0, constraints };
        self.gates = gates.map(|(gate, constraints)| (gate, view(constraints))).into();
    }

    /// Takes in what node `owner` reported.
    pub(super) fn absorb(&mut self, names: &Names, owner: &str, event: &Event) {
        match event {
            Event::CircuitBuilt(circuit) => self.circuits.push(names.circuit(owner, circuit)),
            Event::CircuitRebuilt { blamed, circuit } => {
                let circuit = names.circuit(owner, circuit);
                self.circuits.push(circuit.clone());
                self.rebuilt.push(Rebuilt { blamed: blamed.as_ref().map(|id| names.of(id)), circuit });
            }
            Event::Executed { exec_hash, status, gas, checkpoints, output, .. } => {
                self.exec_hash = Some(*exec_hash);
                self.status = Some(status.clone());
                self.gas = Some(*gas);
                self.checkpoints = Some(*checkpoints);
                self.output = Some(output.clone());
            }
            Event::Proved { proof_bytes, profile, nullifier, elapsed_ms, .. } => {
                self.receipt = Some(ReceiptView {
                    profile: profile.clone(),
                    proof_bytes: *proof_bytes,
                    prove_ms: *elapsed_ms,
                    nullifier: *nullifier,
                });
            }
            Event::ReceiptVerified { .. } if !self.verified_by.iter().any(|name| name == owner) => {
                self.verified_by.push(owner.into());
            }
            Event::Refused { what, check, from } => {
                let refusal = Refusal {
                    by: owner.into(),
                    check: check.clone(),
                    what: what.clone(),
                    culprit: names.of(from),
                };
                if !self.refused.contains(&refusal) {
                    self.refused.push(refusal);
                }
            }
            _ => {}
        }
    }
}
