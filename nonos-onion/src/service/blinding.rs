use core::fmt;

use curve25519_dalek::Scalar;
use curve25519_dalek::scalar::clamp_integer;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use nonos_identity::{Digest, Domain, NetworkId, PublicKey, Signature, SigningKey};
use sha2::Sha512;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::domains::{SERVICE_BLINDING, SERVICE_NONCE_PREFIX, SERVICE_SUBCREDENTIAL};
use crate::service::period::TimePeriod;

/// Proof of knowing a service's address in one time period; it opens the outer layer of a descriptor.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Subcredential([u8; 32]);

impl Subcredential {
    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Subcredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subcredential(..)")
    }
}

/// What an address becomes in one time period of one network (rend-spec-v3, sections 2.1 and 2.2 and
/// appendix A.2).
///
/// The identity key is an admitted one, so it has no small-order component that would survive the blinding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeriodKeys {
    /// The period.
    pub period: TimePeriod,
    /// The blinded key: all a directory sees of the service.
    pub blinded: PublicKey,
    /// For those who know the address.
    pub subcredential: Subcredential,
}

impl PeriodKeys {
    /// Of the service with the key `identity`.
    #[must_use]
    pub fn of(network: &NetworkId, identity: &PublicKey, period: TimePeriod) -> Self {
        let blinded = blind(identity, &parameter(network, identity, period));
        let subcredential = Digest::of(SERVICE_SUBCREDENTIAL, &[identity.as_bytes(), blinded.as_bytes()]);
        Self { period, blinded, subcredential: Subcredential(*subcredential.as_bytes()) }
    }
}

/// The signing half of a service's identity.
pub(super) struct IdentitySecret {
    expanded: Box<ExpandedSecretKey>,
    public: PublicKey,
}

/// The signing half of a blinded key.
pub(super) struct BlindedSecret {
    expanded: Box<ExpandedSecretKey>,
    verifying: VerifyingKey,
}

impl IdentitySecret {
    pub(super) fn new(key: &SigningKey) -> Self {
        Self { expanded: Box::new(ExpandedSecretKey::from(&*key.to_seed())), public: key.public() }
    }

    pub(super) const fn public(&self) -> PublicKey {
        self.public
    }

    /// A secret of this service that hedges the caller's randomness.
    pub(super) fn nonce_prefix(&self) -> &[u8; 32] {
        &self.expanded.hash_prefix
    }

    pub(super) fn blinded(&self, network: &NetworkId, period: TimePeriod) -> BlindedSecret {
        self.blinded_by(&parameter(network, &self.public, period))
    }

    /// `h * a mod l`, where `h` is the clamped parameter. A nonce prefix of its own for each blinded key
    /// keeps two of them, whose ratio is public to who knows the address, from ever sharing a nonce.
    fn blinded_by(&self, parameter: &[u8; 32]) -> BlindedSecret {
        let factor = Scalar::from_bytes_mod_order(clamp_integer(*parameter));
        let prefix = Zeroizing::new(
            *Digest::of(SERVICE_NONCE_PREFIX, &[&self.expanded.hash_prefix, parameter]).as_bytes(),
        );
        let scalar = factor * self.expanded.scalar;
        let expanded = Box::new(ExpandedSecretKey { scalar, hash_prefix: *prefix });
        BlindedSecret { verifying: VerifyingKey::from(&*expanded), expanded }
    }
}

impl BlindedSecret {
    /// Signs `domain || network || message`, for [`PublicKey::verify`].
    pub(super) fn sign(&self, domain: Domain, network: &NetworkId, message: &[u8]) -> Signature {
        let tagged = [domain.as_bytes(), network.as_bytes(), message].concat();
        Signature::from_bytes(raw_sign::<Sha512>(&self.expanded, &tagged, &self.verifying).to_bytes())
    }
}

fn parameter(network: &NetworkId, identity: &PublicKey, period: TimePeriod) -> [u8; 32] {
    let (number, length) = (period.number().to_be_bytes(), TimePeriod::LENGTH_EPOCHS.to_be_bytes());
    *Digest::of(SERVICE_BLINDING, &[identity.as_bytes(), network.as_bytes(), &number, &length]).as_bytes()
}

fn blind(identity: &PublicKey, parameter: &[u8; 32]) -> PublicKey {
    identity.blinded(parameter).expect("an admitted key is a point")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: Domain = Domain::new("nonos/onion/test/v1");

    fn public_of(secret: &BlindedSecret) -> PublicKey {
        PublicKey::admit(secret.verifying.as_bytes()).expect("in the prime-order group")
    }

    fn array(hex: &str) -> [u8; 32] {
        *hex.parse::<Digest>().expect("32 bytes").as_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn both_halves_blind_to_one_key(seed: [u8; 32], period: u64, other: u64, net: [u8; 32]) {
            let (key, network) = (SigningKey::from_seed(&seed), NetworkId::from_bytes(net));
            let secret = IdentitySecret::new(&key).blinded(&network, TimePeriod::from_number(period));
            let keys = PeriodKeys::of(&network, &key.public(), TimePeriod::from_number(period));
            prop_assert_eq!(public_of(&secret), keys.blinded);
            let signature = secret.sign(D, &network, &seed);
            prop_assert_eq!(keys.blinded.verify(D, &network, &seed, &signature), Ok(()));
            prop_assert!(key.public().verify(D, &network, &seed, &signature).is_err());
            prop_assert!(keys.blinded.verify(D, &network, b"", &signature).is_err());
            if other != period {
                let later = PeriodKeys::of(&network, &key.public(), TimePeriod::from_number(other));
                prop_assert_ne!(later.blinded, keys.blinded);
                prop_assert_ne!(later.subcredential, keys.subcredential);
            }
        }
    }

    /// The vectors of the Tor Project fix the scalar too, whatever the parameter was hashed from.
    #[test]
    fn a_scalar_is_blinded_as_tor_does() {
        let mut count = 0;
        for line in
            include_str!("../../tests/vectors/tor_blinding.txt").lines().filter(|l| !l.starts_with('#'))
        {
            let fields: Vec<_> = line.split(' ').map(array).collect();
            let [seed, public, parameter, scalar, blinded] = fields[..] else { panic!("{line}") };
            let identity = IdentitySecret::new(&SigningKey::from_seed(&seed));
            assert_eq!(*identity.public().as_bytes(), public);
            let secret = identity.blinded_by(&parameter);
            assert_eq!(secret.expanded.scalar.to_bytes(), scalar);
            assert_eq!(*public_of(&secret).as_bytes(), blinded);
            assert_eq!(*blind(&identity.public(), &parameter).as_bytes(), blinded);
            count += 1;
        }
        assert_eq!(count, 10);
    }

    #[test]
    fn each_blinded_key_has_its_own_nonce_prefix() {
        let identity = IdentitySecret::new(&SigningKey::from_seed(&[1; 32]));
        let network = NetworkId::from_name("test");
        let prefix = |n| identity.blinded(&network, TimePeriod::from_number(n)).expanded.hash_prefix;
        assert!(prefix(1) != prefix(2) && prefix(1) != *identity.nonce_prefix());
    }

    #[test]
    fn networks_share_no_key() {
        let key = SigningKey::from_seed(&[1; 32]).public();
        let of = |name| PeriodKeys::of(&NetworkId::from_name(name), &key, TimePeriod::from_number(1));
        assert_ne!(of("a").blinded, of("b").blinded);
        assert_ne!(of("a").subcredential, of("b").subcredential);
        assert_eq!(format!("{:?}", of("a").subcredential), "Subcredential(..)");
    }
}
