use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;
use nonos_identity::{Epoch, NodeId, Timestamp};

/// Who runs a relay: relays with equal tags count as one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct FamilyTag(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

/// Where a relay is: a digest of its network prefix, /16 for IPv4 and /32 for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SubnetTag(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl FamilyTag {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SubnetTag {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A relay's bandwidth in powers of two: class `c` carries about `2^c` MB/s.
///
/// Classes above [`Self::MAX`] do not exist, so no relay can claim its way past that weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct BandwidthClass(#[n(0)] u8);

impl BandwidthClass {
    /// The highest class.
    pub const MAX: u8 = 10;

    /// A class; what lies above the highest counts as the highest.
    #[must_use]
    pub const fn new(class: u8) -> Self {
        Self(if class > Self::MAX { Self::MAX } else { class })
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its weight in path selection.
    #[must_use]
    pub const fn weight(self) -> u64 {
        1 << self.0
    }
}

impl<'b, C> Decode<'b, C> for BandwidthClass {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let class = d.u8()?;
        if class > Self::MAX {
            return Err(minicbor::decode::Error::message("no such bandwidth class"));
        }
        Ok(Self(class))
    }
}

/// What a client needs to know to make a relay, or a destination, a hop of its circuit.
///
/// It is not signed by itself: it travels inside the relay's signed beacon, and whoever passes it
/// to this crate has checked that signature.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RelayDescriptor {
    /// The relay.
    #[n(0)]
    pub relay: NodeId,
    /// Its X25519 public key (RFC 7748) of that epoch.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub onion_key: [u8; 32],
    /// The epoch of the key.
    #[n(2)]
    pub epoch: Epoch,
    /// Its operator.
    #[n(3)]
    pub family: FamilyTag,
    /// Its network.
    #[n(4)]
    pub subnet: SubnetTag,
    /// Its bandwidth.
    #[n(5)]
    pub bandwidth: BandwidthClass,
    /// The first second at which the descriptor is no longer valid.
    #[n(6)]
    pub expiry: Timestamp,
}

impl RelayDescriptor {
    /// Whether a circuit may be built with it at `now`: not expired, and of the current epoch.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expiry && self.epoch == Epoch::at(now)
    }
}

impl Wire for RelayDescriptor {
    const MAX_BYTES: usize = 160;
}
