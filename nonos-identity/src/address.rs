use core::fmt;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;
use sha3::{Digest as _, Sha3_256};

use crate::digest::Digest;
use crate::domains::ONION_CHECKSUM;
use crate::key::{AdmitError, PublicKey};
use crate::wire::Wire;

/// The kind of onion network an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OnionNetwork {
    /// The mesh's own circuits; addresses end in `.non`.
    Mesh,
    /// Tor and networks with Tor's version 3 addresses; they end in `.onion`.
    Tor,
}

impl OnionNetwork {
    /// Every network.
    pub const ALL: [Self; 2] = [Self::Mesh, Self::Tor];

    /// The version byte that ends an address.
    #[must_use]
    pub const fn version(self) -> u8 {
        match self {
            Self::Mesh => 0x4E,
            Self::Tor => 3,
        }
    }

    /// The suffix of the text form.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Mesh => ".non",
            Self::Tor => ".onion",
        }
    }

    fn checksum(self, key: &[u8; 32]) -> [u8; 2] {
        let version = [self.version()];
        let hash = match self {
            Self::Mesh => *Digest::of(ONION_CHECKSUM, &[key, &version]).as_bytes(),
            Self::Tor => Sha3_256::new()
                .chain_update(b".onion checksum")
                .chain_update(key)
                .chain_update(version)
                .finalize()
                .into(),
        };
        let [first, second, ..] = hash;
        [first, second]
    }
}

/// The address of an onion service: 35 bytes `key || checksum || version`, as text 56 base32
/// characters and the suffix of the network (Tor rend-spec-v3 section 6, address-spec).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OnionAddress {
    network: OnionNetwork,
    key: PublicKey,
}

/// Why bytes or a text are no onion address. The fault of whoever presented them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnionAddressError {
    /// Not 56 lower-case base32 characters and a known suffix.
    #[error("malformed onion address")]
    Malformed,
    /// The version byte belongs to no network or to another one than the suffix.
    #[error("unknown onion address version {0}")]
    Version(u8),
    /// Mistyped or damaged.
    #[error("onion address checksum does not match")]
    Checksum,
    /// The key in it breaks the admission rule.
    #[error(transparent)]
    Key(#[from] AdmitError),
}

impl OnionAddress {
    /// Length in bytes.
    pub const LEN: usize = 35;

    /// Characters of the text form before the suffix.
    const TEXT_LEN: usize = 56;

    /// The address of a key.
    #[must_use]
    pub const fn new(network: OnionNetwork, key: PublicKey) -> Self {
        Self { network, key }
    }

    /// From its bytes.
    ///
    /// # Errors
    /// [`OnionAddressError`] if version, checksum or key are not valid.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, OnionAddressError> {
        let malformed = OnionAddressError::Malformed;
        let (key, rest) = bytes.split_first_chunk::<32>().ok_or(malformed)?;
        let (checksum, rest) = rest.split_first_chunk::<2>().ok_or(malformed)?;
        let &[version] = rest else { return Err(malformed) };
        let network = OnionNetwork::ALL
            .into_iter()
            .find(|network| network.version() == version)
            .ok_or(OnionAddressError::Version(version))?;
        if *checksum != network.checksum(key) {
            return Err(OnionAddressError::Checksum);
        }
        Ok(Self { network, key: PublicKey::admit(key)? })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let checksum = self.network.checksum(self.key.as_bytes());
        let parts = self.key.as_bytes().iter().chain(&checksum).copied().chain([self.network.version()]);
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = part;
        }
        bytes
    }

    /// The network it belongs to.
    #[must_use]
    pub const fn network(&self) -> OnionNetwork {
        self.network
    }

    /// The public key of the service.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
}

impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BASE32_NOPAD.encode(&self.to_bytes());
        text.make_ascii_lowercase();
        text.push_str(self.network.suffix());
        f.pad(&text)
    }
}

impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnionAddress({self})")
    }
}

/// Lower case only: an address has one text form.
impl FromStr for OnionAddress {
    type Err = OnionAddressError;

    fn from_str(text: &str) -> Result<Self, OnionAddressError> {
        let malformed = OnionAddressError::Malformed;
        let (name, network) = OnionNetwork::ALL
            .into_iter()
            .find_map(|network| Some((text.strip_suffix(network.suffix())?, network)))
            .ok_or(malformed)?;
        if name.len() != Self::TEXT_LEN || name.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(malformed);
        }
        let bytes = BASE32_NOPAD.decode(name.to_ascii_uppercase().as_bytes()).map_err(|_| malformed)?;
        let bytes: [u8; Self::LEN] = bytes.try_into().map_err(|_| malformed)?;
        let address = Self::from_bytes(&bytes)?;
        if address.network != network {
            return Err(OnionAddressError::Version(address.network.version()));
        }
        Ok(address)
    }
}

impl serde::Serialize for OnionAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for OnionAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<C> minicbor::Encode<C> for OnionAddress {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for OnionAddress {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = <&[u8; Self::LEN]>::try_from(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("wrong length"))?;
        Self::from_bytes(bytes).map_err(minicbor::decode::Error::custom)
    }
}

impl Wire for OnionAddress {
    const MAX_BYTES: usize = Self::LEN + 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn key() -> PublicKey {
        SigningKey::from_seed(&[1; 32]).public()
    }

    #[test]
    fn both_forms_round_trip() {
        for network in OnionNetwork::ALL {
            let address = OnionAddress::new(network, key());
            let text = address.to_string();
            assert_eq!(text.len(), OnionAddress::TEXT_LEN + network.suffix().len());
            assert_eq!(text.parse(), Ok(address));
            assert_eq!(OnionAddress::from_bytes(&address.to_bytes()), Ok(address));
            assert_eq!(crate::wire::from_bytes(&crate::wire::to_bytes(&address)), Ok(address));
        }
    }

    #[test]
    fn every_altered_byte_is_refused() {
        for network in OnionNetwork::ALL {
            let bytes = OnionAddress::new(network, key()).to_bytes();
            for at in 0..bytes.len() * 8 {
                let mut altered = bytes;
                altered[at / 8] ^= 1 << (at % 8);
                let expected = match at / 8 {
                    34 => OnionAddressError::Version(altered[34]),
                    _ => OnionAddressError::Checksum,
                };
                assert_eq!(OnionAddress::from_bytes(&altered), Err(expected), "bit {at}");
            }
        }
    }

    #[test]
    fn the_networks_do_not_mix() {
        let mesh = OnionAddress::new(OnionNetwork::Mesh, key()).to_string();
        let tor = OnionAddress::new(OnionNetwork::Tor, key()).to_string();
        let renamed = mesh.replace(".non", ".onion");
        assert_eq!(renamed.parse::<OnionAddress>(), Err(OnionAddressError::Version(0x4E)));
        let renamed = tor.replace(".onion", ".non");
        assert_eq!(renamed.parse::<OnionAddress>(), Err(OnionAddressError::Version(3)));
        let mut relabelled = OnionAddress::new(OnionNetwork::Tor, key()).to_bytes();
        relabelled[34] = 0x4E;
        assert_eq!(OnionAddress::from_bytes(&relabelled), Err(OnionAddressError::Checksum));
    }

    #[test]
    fn there_is_one_text_form() {
        let text = OnionAddress::new(OnionNetwork::Tor, key()).to_string();
        let bare = text.trim_end_matches(".onion");
        for bad in [
            text.to_uppercase(),
            format!("{}.onion", bare.to_uppercase()),
            bare.to_owned(),
            format!("{bare}.anyone"),
            format!("a{text}"),
            format!("www.{text}"),
            format!("{text}."),
            format!(" {text}"),
            text.replacen(|c: char| c.is_ascii_lowercase(), "1", 1),
            text.replacen(|c: char| c.is_ascii_lowercase(), "=", 1),
            String::new(),
            ".onion".to_owned(),
        ] {
            assert_eq!(bad.parse::<OnionAddress>(), Err(OnionAddressError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_key_that_breaks_the_rule_makes_no_address() {
        let mut identity = [0; 32];
        identity[0] = 1;
        for network in OnionNetwork::ALL {
            let mut bytes = [0; OnionAddress::LEN];
            bytes[..32].copy_from_slice(&identity);
            bytes[32..34].copy_from_slice(&network.checksum(&identity));
            bytes[34] = network.version();
            let error = OnionAddressError::Key(AdmitError::Torsion);
            assert_eq!(OnionAddress::from_bytes(&bytes), Err(error));
        }
    }
}
