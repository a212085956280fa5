use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{NetworkId, NodeId, Timestamp};

use crate::attestation::{Attestation, AttestationError};
use crate::config::{Config, ConfigError};
use crate::engine::{FaultRecord, TrustEngine};
use crate::fault::{Conviction, Fault, FaultError};
use crate::peer::Peer;

const VERSION: u8 = 1;

/// Why a snapshot cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The caller's fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not the bytes of a snapshot; the medium's fault.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Taken by another node; the caller's fault.
    #[error("snapshot of another node")]
    Observer,
    /// A record in it does not verify; the medium's fault, or that of a wrong network id.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    /// A fault in it does not verify; as for records.
    #[error(transparent)]
    Fault(#[from] FaultError),
}

#[derive(Encode, Decode)]
struct FaultLine {
    #[n(0)]
    evidence: ByteVec,
    #[n(1)]
    at: Timestamp,
    #[n(2)]
    pardoned: bool,
    /// What a judge found; only of faults that take one.
    #[n(3)]
    conviction: Option<Conviction>,
}

#[derive(Encode, Decode)]
struct Snapshot {
    #[n(0)]
    version: u8,
    #[n(1)]
    observer: NodeId,
    #[n(2)]
    peers: BTreeMap<NodeId, Peer>,
    #[n(3)]
    attestations: Vec<ByteVec>,
    #[n(4)]
    faults: Vec<FaultLine>,
}

impl Wire for Snapshot {
    /// Room for the default limits several times over; a snapshot comes from the node's own disk.
    const MAX_BYTES: usize = 256 * 1024 * 1024;
}

impl TrustEngine {
    /// The whole state in canonical bytes; hearsay is weighed anew after a restore.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let attestations = self.attestations.iter();
        let faults = self.faults.values();
        wire::to_bytes(&Snapshot {
            version: VERSION,
            observer: self.observer,
            peers: self.peers.clone(),
            attestations: attestations.map(|signed| signed.envelope().as_bytes().to_vec().into()).collect(),
            faults: faults
                .map(|FaultRecord { fault, at, pardoned }| {
                    let (evidence, conviction) = match &**fault {
                        Fault::FalseRun { evidence, conviction } => (evidence.clone(), Some(*conviction)),
                        fault => (fault.to_bytes(), None),
                    };
                    FaultLine { evidence: evidence.into(), at: *at, pardoned: *pardoned, conviction }
                })
                .collect(),
        })
    }

    /// Restores a snapshot and weighs its hearsay at `now`. Every signature in it is checked again,
    /// at about 50 us each. What a judge found is believed like the node's own observations: no run
    /// is made again at a start.
    ///
    /// # Errors
    /// [`RestoreError`] says whose fault it is.
    pub fn restore(
        config: Config,
        observer: NodeId,
        network: &NetworkId,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        let mut engine = Self::new(config, observer)?;
        let snapshot: Snapshot = wire::from_bytes(bytes)?;
        if snapshot.version != VERSION {
            return Err(DecodeError::Malformed.into());
        }
        if snapshot.observer != observer {
            return Err(RestoreError::Observer);
        }
        engine.peers = snapshot.peers;
        for bytes in &snapshot.attestations {
            // The limits may be tighter now; what no longer fits is dropped.
            let _ = engine.attestations.merge(Attestation::open_expired(bytes, network)?);
        }
        for FaultLine { evidence, at, pardoned, conviction } in snapshot.faults {
            let fault = match conviction {
                Some(conviction) => Fault::convicted(evidence.into(), conviction),
                None => Fault::parse(&evidence, network)?,
            };
            engine.faults.insert(fault.key(), FaultRecord { fault, at, pardoned });
        }
        engine.refresh(now);
        Ok(engine)
    }
}
