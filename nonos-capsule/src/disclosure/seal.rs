use nonos_identity::wire::{self, Wire as _};
use nonos_identity::{SealError, SharedBox, StaticSecret};

use super::{FieldOpening, Recipient};
use crate::capsule::CapsuleId;
use crate::domains::HIDDEN_OPENING;

/// Ends an opening inside its padding.
const END: u8 = 0x80;
/// Bytes that are sealed, whatever the opening: anybody may get the box, and a length alone would
/// tell a "yes" from a "no".
const PLAIN_BYTES: usize = FieldOpening::MAX_BYTES + 1;

impl FieldOpening {
    /// Encrypts it for the peers that may see it, bound to the capsule; anybody may carry the box.
    /// `ephemeral` is fresh and used once. The box tells the number of peers and nothing else.
    ///
    /// # Errors
    /// [`SealError`] if there is no peer or more than [`SharedBox::MAX_RECIPIENTS`], if a peer's
    /// key is none, or if the opening was altered to be longer than one can be.
    pub fn seal(
        &self,
        capsule: &CapsuleId,
        to: &[Recipient],
        ephemeral: &StaticSecret,
    ) -> Result<SharedBox, SealError> {
        let mut plain = wire::to_bytes(self);
        if plain.len() > Self::MAX_BYTES {
            return Err(SealError::TooLong { len: plain.len() });
        }
        plain.push(END);
        plain.resize(PLAIN_BYTES, 0);
        let to: Vec<[u8; 32]> = to.iter().map(|peer| *peer.as_bytes()).collect();
        SharedBox::seal(&to, ephemeral, HIDDEN_OPENING, capsule.as_bytes(), &plain)
    }

    /// Decrypts what [`Self::seal`] made; it is still to be checked against the manifest.
    ///
    /// # Errors
    /// [`SealError::Open`] if it is for other peers or another capsule, altered, or no opening.
    pub fn unseal(sealed: &SharedBox, capsule: &CapsuleId, secret: &StaticSecret) -> Result<Self, SealError> {
        let plain = sealed.open(secret, HIDDEN_OPENING, capsule.as_bytes())?;
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(SealError::Open)?;
        let (opening, padding) = plain.split_at_checked(end).ok_or(SealError::Open)?;
        if plain.len() != PLAIN_BYTES || padding.first() != Some(&END) {
            return Err(SealError::Open);
        }
        wire::from_bytes(opening).map_err(|_| SealError::Open)
    }
}

#[cfg(test)]
mod tests {
    use nonos_identity::WideDigest;

    use super::*;
    use crate::disclosure::{Field, HiddenFields, Release};

    fn secret(byte: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[byte; 32])
    }

    fn peer(byte: u8) -> Recipient {
        Recipient::from_bytes(secret(byte).public())
    }

    fn id(byte: u8) -> CapsuleId {
        CapsuleId::from_digest(WideDigest::from_bytes([byte; 64]))
    }

    fn opening(value: &str) -> FieldOpening {
        let field = Field { name: "customer".to_owned(), value: value.to_owned(), release: Release::Author };
        HiddenFields::new([7; 32], vec![field]).expect("within the rules").open(0).expect("a field")
    }

    #[test]
    fn a_sealed_opening_is_for_its_peers_and_capsule() {
        let opening = opening("x");
        let sealed = opening.seal(&id(1), &[peer(1), peer(3)], &secret(9)).expect("valid keys");
        for byte in [1, 3] {
            assert_eq!(FieldOpening::unseal(&sealed, &id(1), &secret(byte)), Ok(opening.clone()));
        }
        assert_eq!(FieldOpening::unseal(&sealed, &id(2), &secret(1)), Err(SealError::Open));
        assert_eq!(FieldOpening::unseal(&sealed, &id(1), &secret(2)), Err(SealError::Open));
        let nobody = Recipient::from_bytes([0; 32]);
        assert_eq!(opening.seal(&id(1), &[nobody], &secret(9)), Err(SealError::Recipient));
        assert_eq!(opening.seal(&id(1), &[], &secret(9)), Err(SealError::Recipients(0)));
    }

    /// Whoever carries a sealed opening learns nothing of the value from its length.
    #[test]
    fn boxes_for_as_many_peers_are_as_long() {
        let bytes = |value: &str| {
            let sealed = opening(value).seal(&id(1), &[peer(1)], &secret(9)).expect("valid key");
            wire::to_bytes(&sealed).len()
        };
        assert_eq!(bytes(""), bytes(&"v".repeat(1_024)));
        let altered = FieldOpening { value: "v".repeat(2_000), ..opening("") };
        let refused = altered.seal(&id(1), &[peer(1)], &secret(9));
        assert!(matches!(refused, Err(SealError::TooLong { .. })), "{refused:?}");
    }

    #[test]
    fn padding_has_one_form() {
        let sealed = |plain: &[u8]| {
            let to = [*peer(1).as_bytes()];
            SharedBox::seal(&to, &secret(9), HIDDEN_OPENING, id(1).as_bytes(), plain).expect("valid key")
        };
        let bytes = wire::to_bytes(&opening("x"));
        let padded = |end: u8, len: usize| {
            let mut plain = bytes.clone();
            plain.push(end);
            plain.resize(len, 0);
            FieldOpening::unseal(&sealed(&plain), &id(1), &secret(1))
        };
        assert!(padded(END, PLAIN_BYTES).is_ok());
        for wrong in [padded(1, PLAIN_BYTES), padded(END, PLAIN_BYTES - 1), padded(END, PLAIN_BYTES + 1)] {
            assert_eq!(wrong, Err(SealError::Open));
        }
        assert_eq!(
            FieldOpening::unseal(&sealed(&[0; PLAIN_BYTES]), &id(1), &secret(1)),
            Err(SealError::Open)
        );
    }
}
