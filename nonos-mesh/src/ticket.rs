use core::fmt;
use core::str::FromStr;

use data_encoding::{BASE32_NOPAD, Specification};
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, DecodeError, Wire};
use nonos_identity::{Digest, NetworkId};

use crate::contact::{Contact, ContactError};
use crate::domains;

/// What every ticket starts with; the digit is its version.
const PREFIX: &str = "nonos-ticket1";
/// Checksum length in bytes: a typing error passes with probability 2^-32.
const CHECKSUM_BYTES: usize = 4;

/// Why a text is not a ticket. The fault of whoever wrote or copied it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not start as a ticket of this version does.
    #[error("a ticket starts with {PREFIX}")]
    Prefix,
    /// Longer than any ticket.
    #[error("ticket is too long")]
    TooLong,
    /// A character outside lower-case base32.
    #[error("ticket is not lower-case base32")]
    Base32,
    /// Mistyped or truncated.
    #[error("ticket checksum does not match")]
    Checksum,
    /// Its content is not canonical.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A contact in it breaks a limit.
    #[error(transparent)]
    Contact(#[from] ContactError),
    /// It has no contact or too many.
    #[error("a ticket names 1 to {} contacts", Ticket::MAX_CONTACTS)]
    Count,
}

/// An invitation: the network's id and where to dial. Text form: `nonos-ticket1` and base32.
///
/// A ticket is not a credential; whoever holds it learns the addresses in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ticket {
    /// The mesh it leads to.
    #[n(0)]
    pub network: NetworkId,
    /// Whom to dial, 1 to [`Self::MAX_CONTACTS`].
    #[n(1)]
    pub contacts: Vec<Contact>,
}

impl Ticket {
    /// Most contacts in one ticket.
    pub const MAX_CONTACTS: usize = 8;

    fn check(&self) -> Result<(), TicketError> {
        if self.contacts.is_empty() || self.contacts.len() > Self::MAX_CONTACTS {
            return Err(TicketError::Count);
        }
        self.contacts.iter().try_for_each(Contact::check)?;
        Ok(())
    }
}

impl Wire for Ticket {
    const MAX_BYTES: usize = 64 + Self::MAX_CONTACTS * Contact::MAX_BYTES;
}

/// RFC 4648 base32 without padding, in lower case.
fn base32() -> data_encoding::Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().unwrap_or(BASE32_NOPAD)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Digest::of(domains::TICKET, &[body]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = wire::to_bytes(self);
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", base32().encode(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        if body.len() > (Self::MAX_BYTES + CHECKSUM_BYTES) * 8 / 5 + 1 {
            return Err(TicketError::TooLong);
        }
        let bytes = base32().decode(body.as_bytes()).map_err(|_| TicketError::Base32)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Checksum)?;
        if checksum(content) != *sum {
            return Err(TicketError::Checksum);
        }
        let ticket: Self = wire::from_bytes(content)?;
        ticket.check()?;
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::TransportId;

    fn ticket() -> Ticket {
        Ticket {
            network: NetworkId::from_name("ticket"),
            contacts: vec![Contact {
                transport: TransportId::new(vec![3; 38]).expect("valid"),
                addresses: vec!["/ip4/192.0.2.1/tcp/4001".into()],
            }],
        }
    }

    #[test]
    fn text_round_trips() {
        let text = ticket().to_string();
        assert!(text.starts_with("nonos-ticket1"));
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(format!(" {text}\n").parse(), Ok(ticket()));
    }

    #[test]
    fn typing_errors_are_caught() {
        let text = ticket().to_string();
        let at = text.len() - 20;
        let old = text.as_bytes()[at];
        let new = if old == b'a' { "b" } else { "a" };
        let mut typo = text.clone();
        typo.replace_range(at..=at, new);
        assert_eq!(typo.parse::<Ticket>(), Err(TicketError::Checksum));
        assert_eq!(text.to_uppercase().parse::<Ticket>(), Err(TicketError::Prefix));
        assert!(text[..text.len() - 8].parse::<Ticket>().is_err());
        let empty = Ticket { contacts: vec![], ..ticket() };
        assert_eq!(empty.to_string().parse::<Ticket>(), Err(TicketError::Count));
    }
}
