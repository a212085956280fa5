use hkdf::Hkdf;
use minicbor::{Decode, Encode};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::kek::{Kek, KekError, KekSource, NewKek, SlotKind};
use crate::domains::RECOVERY_KEY;
use crate::identity::StaticSecret;
use crate::key::NodeId;
use crate::wire::{self, Wire};

/// The parameters of a recovery-key slot.
#[derive(Encode, Decode)]
pub(crate) struct RecoveryParams {
    /// The key whose owner can open the slot.
    #[cbor(n(0), with = "minicbor::bytes")]
    recipient: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    ephemeral: [u8; 32],
}

impl Wire for RecoveryParams {
    const MAX_BYTES: usize = 72;
}

/// An X25519 public key that makes slots; they open with the secret half, a [`RecoveryKey`],
/// which this machine never needs to see.
///
/// The key-encryption key is HKDF-SHA512 over the shared secret with an ephemeral key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryPublic([u8; 32]);

impl RecoveryPublic {
    /// From its bytes; a key of small order is refused when it makes a slot.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl KekSource for RecoveryPublic {
    fn kind(&self) -> SlotKind {
        SlotKind::RecoveryKey
    }

    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        let ephemeral = StaticSecret::from_bytes(random);
        let shared = ephemeral
            .diffie_hellman(&self.0)
            .map_err(|_| KekError::Weak("everybody knows what a public key of small order agrees on"))?;
        let params = RecoveryParams { recipient: self.0, ephemeral: ephemeral.public() };
        Ok(NewKek { key: derive(root, &params, &shared), params: wire::to_bytes(&params) })
    }

    fn recover(&self, _: NodeId, _: &[u8]) -> Result<Kek, KekError> {
        Err(KekError::PublicOnly)
    }
}

/// The secret half of a [`RecoveryPublic`], kept offline. Wiped on drop.
#[derive(Debug)]
pub struct RecoveryKey(StaticSecret);

impl RecoveryKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from_bytes(bytes))
    }

    /// The half that makes slots.
    #[must_use]
    pub fn public(&self) -> RecoveryPublic {
        RecoveryPublic(self.0.public())
    }
}

impl KekSource for RecoveryKey {
    fn kind(&self) -> SlotKind {
        SlotKind::RecoveryKey
    }

    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        self.public().fresh(root, random)
    }

    fn recover(&self, root: NodeId, params: &[u8]) -> Result<Kek, KekError> {
        let params: RecoveryParams = wire::from_bytes(params).map_err(|_| KekError::Malformed)?;
        if params.recipient != self.0.public() {
            return Err(KekError::Foreign);
        }
        let shared = self.0.diffie_hellman(&params.ephemeral).map_err(|_| KekError::Malformed)?;
        Ok(derive(root, &params, &shared))
    }
}

fn derive(root: NodeId, params: &RecoveryParams, shared: &Zeroizing<[u8; 32]>) -> Kek {
    let mut key = Zeroizing::new([0; 32]);
    let salt = [params.ephemeral, params.recipient].concat();
    Hkdf::<Sha512>::new(Some(&salt), &**shared)
        .expand_multi_info(&[RECOVERY_KEY.as_bytes(), root.as_bytes()], &mut *key)
        .expect("32 bytes are within the limit of HKDF");
    Kek::from_bytes(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: NodeId = NodeId::from_bytes([1; 32]);

    #[test]
    fn the_secret_half_finds_the_key_again() {
        let key = RecoveryKey::from_bytes(&[9; 32]);
        let new = key.public().fresh(ROOT, &[3; 32]).expect("fresh");
        let recover = |key: &RecoveryKey, root| key.recover(root, &new.params);
        assert_eq!(recover(&key, ROOT).expect("recover").as_bytes(), new.key.as_bytes());
        let other_root = recover(&key, NodeId::from_bytes([2; 32])).expect("recover");
        assert_ne!(other_root.as_bytes(), new.key.as_bytes());
        let stranger = RecoveryKey::from_bytes(&[8; 32]);
        assert_eq!(recover(&stranger, ROOT).err(), Some(KekError::Foreign));
        assert_eq!(key.public().recover(ROOT, &new.params).err(), Some(KekError::PublicOnly));
        let another = key.public().fresh(ROOT, &[4; 32]).expect("fresh");
        assert_ne!(another.key.as_bytes(), new.key.as_bytes());
    }

    #[test]
    fn keys_of_small_order_are_refused_on_both_sides() {
        let mut one = [0; 32];
        one[0] = 1;
        let key = RecoveryKey::from_bytes(&[9; 32]);
        for small in [[0; 32], one] {
            let made = RecoveryPublic::from_bytes(small).fresh(ROOT, &[3; 32]);
            assert!(matches!(made, Err(KekError::Weak(_))));
            let params = RecoveryParams { recipient: key.0.public(), ephemeral: small };
            assert_eq!(key.recover(ROOT, &wire::to_bytes(&params)).err(), Some(KekError::Malformed));
        }
        assert_eq!(key.recover(ROOT, &[1, 2, 3]).err(), Some(KekError::Malformed));
    }

    #[test]
    fn the_longest_params_fit() {
        let params = RecoveryParams { recipient: [255; 32], ephemeral: [255; 32] };
        assert!(wire::from_bytes::<RecoveryParams>(&wire::to_bytes(&params)).is_ok());
    }
}
