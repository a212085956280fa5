use nonos_capsule::{CapsuleId, FieldOpening, Hidden, Recipient, Release};
use nonos_identity::StaticSecret;

use super::Shown;

/// What was shown, to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reading {
    /// The author signed for this field.
    Opened(FieldOpening),
    /// Sealed to others.
    Closed,
}

/// An opening that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Whoever showed it could have seen that. Its fault.
    #[error("the opening does not fit the signed manifest")]
    Forged,
    /// The one who sealed it is at fault, or whoever carried it: it was sealed to this key, or the
    /// manifest says that it should be.
    #[error("what is sealed to this key does not fit the signed manifest")]
    SealedForgery,
}

/// Reads an opening of one field: unseals it if need be and checks it against the signed manifest.
///
/// # Errors
/// [`ReadError`] says who can be blamed.
pub fn open(
    shown: &Shown,
    capsule: &CapsuleId,
    hidden: &Hidden,
    field: u8,
    secret: &StaticSecret,
) -> Result<Reading, ReadError> {
    let fits = |opening: &FieldOpening| opening.index == field && opening.check(hidden).is_ok();
    match shown {
        Shown::Plain(opening) if fits(opening) => Ok(Reading::Opened(opening.clone())),
        Shown::Plain(_) => Err(ReadError::Forged),
        Shown::Sealed(sealed) => match FieldOpening::unseal(sealed, capsule, secret) {
            Ok(opening) if fits(&opening) => Ok(Reading::Opened(opening)),
            Ok(_) => Err(ReadError::SealedForgery),
            Err(_) if is_peer(hidden, field, secret) => Err(ReadError::SealedForgery),
            Err(_) => Ok(Reading::Closed),
        },
    }
}

fn is_peer(hidden: &Hidden, field: u8, secret: &StaticSecret) -> bool {
    let key = Recipient::from_bytes(secret.public());
    matches!(hidden.release(field), Some(Release::Peers(peers)) if peers.contains(&key))
}

#[cfg(test)]
mod tests {
    use nonos_capsule::{Field, HiddenFields};
    use nonos_identity::WideDigest;

    use super::*;
    use crate::openings::seal;

    fn secret(byte: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[byte; 32])
    }

    fn id(byte: u8) -> CapsuleId {
        CapsuleId::from_digest(WideDigest::from_bytes([byte; 64]))
    }

    fn fields() -> (HiddenFields, Hidden) {
        let field = |name: &str, release| Field { name: name.into(), value: format!("of {name}"), release };
        let peers = vec![Recipient::from_bytes(secret(1).public())];
        let fields = vec![
            field("licence", Release::Public),
            field("price", Release::Public),
            field("customer", Release::Peers(peers)),
        ];
        let fields = HiddenFields::new([7; 32], fields).expect("within the rules");
        let hidden = fields.commit().expect("within the rules");
        (fields, hidden)
    }

    #[test]
    fn a_reader_sees_through_a_forgery() {
        let (fields, hidden) = fields();
        let peer = [Recipient::from_bytes(secret(1).public())];
        let read = |shown: &Shown, field| open(shown, &id(1), &hidden, field, &secret(1));
        let mut altered = fields.open(2).expect("a field");
        altered.value = "of somebody else".into();
        assert_eq!(read(&Shown::Plain(altered.clone()), 2), Err(ReadError::Forged));
        // True, and not what was asked for.
        assert_eq!(read(&Shown::Plain(fields.open(0).expect("a field")), 1), Err(ReadError::Forged));
        let sealed = seal(&altered, &id(1), &peer).expect("a key");
        assert_eq!(read(&sealed, 2), Err(ReadError::SealedForgery));
        let honest = fields.open(2).expect("a field");
        let elsewhere = seal(&honest, &id(2), &peer).expect("a key");
        assert_eq!(read(&elsewhere, 2), Err(ReadError::SealedForgery));
        let to_others = seal(&honest, &id(1), &[Recipient::from_bytes(secret(2).public())]).expect("a key");
        assert_eq!(read(&to_others, 2), Err(ReadError::SealedForgery));
        assert_eq!(open(&to_others, &id(1), &hidden, 2, &secret(3)), Ok(Reading::Closed));
    }
}
