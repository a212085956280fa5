use core::fmt;

use data_encoding::HEXLOWER;
use minicbor::{Decode, Encode};
use nonos_identity::NetworkId;
use nonos_identity::wire::Wire;
use serde::{Deserialize, Serialize};

/// The id of a transport endpoint, opaque to the core: the bytes of a libp2p PeerId, for one.
///
/// It authenticates a link and says nothing about the operator behind it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct TransportId(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl TransportId {
    /// Longest id, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// From its bytes.
    ///
    /// # Errors
    /// [`ContactError::TransportId`] if empty or beyond [`Self::MAX_BYTES`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ContactError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > Self::MAX_BYTES {
            return Err(ContactError::TransportId);
        }
        Ok(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_valid(&self) -> bool {
        !self.0.is_empty() && self.0.len() <= Self::MAX_BYTES
    }
}

impl fmt::Debug for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = HEXLOWER.encode(&self.0);
        let tail = hex.get(hex.len().saturating_sub(8)..).unwrap_or(&hex);
        write!(f, "TransportId(..{tail})")
    }
}

/// Why a contact is refused. The fault of whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContactError {
    /// The transport id is empty or too long.
    #[error("transport id must have 1 to {} bytes", TransportId::MAX_BYTES)]
    TransportId,
    /// Too many addresses, or one is empty, too long or not printable ASCII.
    #[error(
        "a contact has at most {} addresses of at most {} printable bytes",
        Contact::MAX_ADDRESSES,
        Contact::MAX_ADDRESS_BYTES
    )]
    Address,
    /// The file is longer than a contact file can be.
    #[error("contact file exceeds {} bytes", MAX_FILE_BYTES)]
    TooLong,
    /// Not a contact file.
    #[error("malformed contact file: {0}")]
    Malformed(String),
    /// The file belongs to another mesh.
    #[error("contact file of another network")]
    ForeignNetwork,
}

/// Where a node can be dialled. A hint without a signature: the handshake proves the id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Contact {
    /// Who answers there.
    #[n(0)]
    pub transport: TransportId,
    /// Multiaddr texts without the trailing `/p2p/..`, best first.
    #[n(1)]
    pub addresses: Vec<String>,
}

impl Contact {
    /// Most addresses of one contact.
    pub const MAX_ADDRESSES: usize = 8;
    /// Longest address, in bytes.
    pub const MAX_ADDRESS_BYTES: usize = 128;

    /// Checks the limits.
    ///
    /// # Errors
    /// [`ContactError`] names the limit.
    pub fn check(&self) -> Result<(), ContactError> {
        if !self.transport.is_valid() {
            return Err(ContactError::TransportId);
        }
        let fine = |a: &String| {
            !a.is_empty() && a.len() <= Self::MAX_ADDRESS_BYTES && a.bytes().all(|b| b.is_ascii_graphic())
        };
        if self.addresses.len() > Self::MAX_ADDRESSES || !self.addresses.iter().all(fine) {
            return Err(ContactError::Address);
        }
        Ok(())
    }
}

impl Wire for Contact {
    const MAX_BYTES: usize =
        TransportId::MAX_BYTES + Self::MAX_ADDRESSES * (Self::MAX_ADDRESS_BYTES + 4) + 16;
}

/// Longest contact file, in bytes: bounds what a stranger's file makes us parse.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileView {
    network: NetworkId,
    #[serde(default)]
    contact: Vec<ContactView>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactView {
    transport: String,
    addresses: Vec<String>,
}

/// Writes contacts as a TOML file.
#[must_use]
pub fn export_contacts(network: &NetworkId, contacts: &[Contact]) -> Vec<u8> {
    let view = FileView {
        network: *network,
        contact: contacts
            .iter()
            .map(|c| ContactView {
                transport: HEXLOWER.encode(c.transport.as_bytes()),
                addresses: c.addresses.clone(),
            })
            .collect(),
    };
    // Strings and arrays of strings always have a TOML form.
    toml::to_string(&view).unwrap_or_default().into_bytes()
}

/// Reads a file of [`export_contacts`].
///
/// # Errors
/// [`ContactError`] if it is malformed, breaks a limit or belongs to another network.
pub fn import_contacts(network: &NetworkId, bytes: &[u8]) -> Result<Vec<Contact>, ContactError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ContactError::TooLong);
    }
    let text = core::str::from_utf8(bytes).map_err(|e| ContactError::Malformed(e.to_string()))?;
    let view: FileView = toml::from_str(text).map_err(|e| ContactError::Malformed(e.message().to_owned()))?;
    if view.network != *network {
        return Err(ContactError::ForeignNetwork);
    }
    view.contact
        .into_iter()
        .map(|c| {
            let id = HEXLOWER.decode(c.transport.as_bytes()).map_err(|_| ContactError::TransportId)?;
            let contact = Contact { transport: TransportId::new(id)?, addresses: c.addresses };
            contact.check()?;
            Ok(contact)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact() -> Contact {
        Contact {
            transport: TransportId::new(vec![7; 38]).expect("valid"),
            addresses: vec!["/ip4/127.0.0.1/tcp/4001".into()],
        }
    }

    #[test]
    fn files_round_trip_within_a_network() {
        let network = NetworkId::from_name("a");
        let file = export_contacts(&network, &[contact()]);
        assert_eq!(import_contacts(&network, &file), Ok(vec![contact()]));
        let other = NetworkId::from_name("b");
        assert_eq!(import_contacts(&other, &file), Err(ContactError::ForeignNetwork));
        assert_eq!(import_contacts(&network, &export_contacts(&network, &[])), Ok(vec![]));
    }

    #[test]
    fn limits_hold() {
        let long = Contact { addresses: vec!["x".repeat(129)], ..contact() };
        assert_eq!(long.check(), Err(ContactError::Address));
        let control = Contact { addresses: vec!["/ip4/1.1.1.1\n".into()], ..contact() };
        assert_eq!(control.check(), Err(ContactError::Address));
        let many = Contact { addresses: vec!["/a".into(); 9], ..contact() };
        assert_eq!(many.check(), Err(ContactError::Address));
        assert_eq!(TransportId::new(vec![]), Err(ContactError::TransportId));
    }
}
