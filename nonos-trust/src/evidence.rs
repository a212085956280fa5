use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};

use crate::config::Config;
use crate::fixed::Fixed;

/// Something this node saw a peer do. Private: it is never sent, only attested to.
///
/// Report only what the peer is to blame for. A record this node cannot judge (unknown verifying
/// key, storage error, resource limit) is no evidence at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Evidence {
    /// A proof it made verified.
    #[n(0)]
    ProofAccepted,
    /// A proof it made, or vouched for by its own signature, does not verify.
    #[n(1)]
    ProofInvalid,
    /// It owed a proof and did not deliver in time.
    #[n(2)]
    ProofTimeout,
    /// It served a chunk that checked out.
    #[n(3)]
    ChunkServed,
    /// It served a chunk that does not match the signed manifest.
    #[n(4)]
    ChunkInvalid,
    /// It relayed as asked.
    #[n(5)]
    RelayOk,
    /// It accepted to relay and did not.
    #[n(6)]
    RelayFailed,
    /// It passed on an item that no node could have accepted.
    #[n(7)]
    ItemRejected,
    /// It answered a heartbeat.
    #[n(8)]
    HeartbeatOk,
    /// It missed a heartbeat.
    #[n(9)]
    HeartbeatMissed,
    /// It signed a receipt for work this node did or had done.
    #[n(10)]
    ReceiptSigned,
    /// It used an execution nonce or slot twice.
    #[n(11)]
    BadNonce,
    /// It claimed an identity it could not prove.
    #[n(12)]
    BadIdentity,
    /// A payment it promised was refused.
    #[n(13)]
    PaymentRefused,
}

/// How long a kind of evidence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    /// Being reachable.
    Uptime,
    /// Work done or not done.
    Work,
    /// What no honest node does.
    Offence,
}

impl Memory {
    /// The time after which half of it counts.
    #[must_use]
    pub const fn half_life(self, config: &Config) -> Duration {
        match self {
            Self::Uptime => config.uptime_half_life,
            Self::Work => config.work_half_life,
            Self::Offence => config.offence_half_life,
        }
    }
}

impl Evidence {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::ProofAccepted,
        Self::ProofInvalid,
        Self::ProofTimeout,
        Self::ChunkServed,
        Self::ChunkInvalid,
        Self::RelayOk,
        Self::RelayFailed,
        Self::ItemRejected,
        Self::HeartbeatOk,
        Self::HeartbeatMissed,
        Self::ReceiptSigned,
        Self::BadNonce,
        Self::BadIdentity,
        Self::PaymentRefused,
    ];

    /// How much it weighs, in units of one accepted proof.
    #[must_use]
    pub const fn weight(self) -> Fixed {
        match self {
            Self::ProofAccepted | Self::ReceiptSigned => Fixed::ONE,
            Self::ProofInvalid | Self::BadNonce | Self::BadIdentity | Self::PaymentRefused => {
                Fixed::whole(20)
            }
            Self::ProofTimeout | Self::ItemRejected => Fixed::whole(3),
            Self::ChunkInvalid => Fixed::whole(5),
            Self::ChunkServed => Fixed::ratio(1, 10),
            Self::RelayOk | Self::HeartbeatMissed => Fixed::ratio(1, 2),
            Self::RelayFailed => Fixed::ONE,
            Self::HeartbeatOk => Fixed::ratio(1, 5),
        }
    }

    /// Whether it speaks for the peer.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        matches!(
            self,
            Self::ProofAccepted | Self::ChunkServed | Self::RelayOk | Self::HeartbeatOk | Self::ReceiptSigned
        )
    }

    /// How long it counts.
    #[must_use]
    pub const fn memory(self) -> Memory {
        match self {
            Self::HeartbeatOk | Self::HeartbeatMissed => Memory::Uptime,
            _ if self.offence_points() > 0 => Memory::Offence,
            _ => Memory::Work,
        }
    }

    /// Points towards [`State::Suspended`](crate::State::Suspended); only for what an honest node
    /// cannot do by accident or bad luck.
    #[must_use]
    pub const fn offence_points(self) -> u32 {
        match self {
            Self::ProofInvalid | Self::BadNonce | Self::BadIdentity | Self::PaymentRefused => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ProofAccepted => "proof accepted",
            Self::ProofInvalid => "proof invalid",
            Self::ProofTimeout => "proof timeout",
            Self::ChunkServed => "chunk served",
            Self::ChunkInvalid => "chunk invalid",
            Self::RelayOk => "relay ok",
            Self::RelayFailed => "relay failed",
            Self::ItemRejected => "item rejected",
            Self::HeartbeatOk => "heartbeat ok",
            Self::HeartbeatMissed => "heartbeat missed",
            Self::ReceiptSigned => "receipt signed",
            Self::BadNonce => "bad nonce",
            Self::BadIdentity => "bad identity",
            Self::PaymentRefused => "payment refused",
        })
    }
}
