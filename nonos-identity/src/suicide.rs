use minicbor::{Decode, Encode};

use crate::domains::SUICIDE;
use crate::key::{NodeId, PublicKey, Signature, SignatureError};
use crate::network::NetworkId;
use crate::signer::{RootSigner, SignerError};
use crate::verified::{Unverified, Verified};
use crate::wire::{self, V1, Wire};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Terms {
    #[n(0)]
    version: V1,
    #[n(1)]
    root: PublicKey,
}

impl Wire for Terms {
    const MAX_BYTES: usize = 40;
}

/// A root key's statement that it counts for nothing any more, for ever: no certificate, no list
/// and no succession of it, whenever signed.
///
/// It is signed at the first boot and kept away from the node, so that an operator whose root key
/// was stolen or lost can still publish it. Whoever gets hold of it can end the node, and
/// nothing else; storing it is the caller's.
///
/// Wire form: `[[version, root], signature]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Suicide {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    signature: Signature,
}

impl Wire for Suicide {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 67;
}

impl Suicide {
    /// Signs the end of a root in one network.
    ///
    /// # Errors
    /// [`SignerError`] if the holder of the root key did not sign.
    pub fn sign(root: &dyn RootSigner, network: &NetworkId) -> Result<Self, SignerError> {
        let terms = Terms { version: V1, root: root.public() };
        let signature = root.sign_root(SUICIDE, network, &wire::to_bytes(&terms))?;
        Ok(Self { terms, signature })
    }

    /// The node that ends.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.terms.root.node_id()
    }
}

impl Unverified<Suicide> {
    /// Checks the signature.
    ///
    /// # Errors
    /// [`SignatureError`] if the root did not sign it for this network.
    pub fn check_signed(self, network: &NetworkId) -> Result<Verified<Suicide>, SignatureError> {
        self.check(|it| it.terms.root.verify(SUICIDE, network, &wire::to_bytes(&it.terms), &it.signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    #[test]
    fn only_the_root_ends_itself_and_only_in_this_network() {
        let root = SigningKey::from_seed(&[1; 32]);
        let signed = Suicide::sign(&root, &net()).expect("software signs");
        let verified = Unverified::new(signed.clone()).check_signed(&net()).expect("signed");
        assert_eq!(verified.node(), root.public().node_id());
        let other = NetworkId::from_name("other");
        assert_eq!(Unverified::new(signed.clone()).check_signed(&other), Err(SignatureError));
        let victim = Terms { root: SigningKey::from_seed(&[2; 32]).public(), ..signed.terms.clone() };
        let forged = Suicide { terms: victim, ..signed };
        assert_eq!(Unverified::new(forged).check_signed(&net()), Err(SignatureError));
    }

    #[test]
    fn no_altered_bit_is_accepted() {
        let signed = Suicide::sign(&SigningKey::from_seed(&[1; 32]), &net()).expect("software signs");
        let bytes = wire::to_bytes(&signed);
        assert!(bytes.len() <= Suicide::MAX_BYTES);
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome =
                wire::from_bytes::<Suicide>(&altered).map(|it| Unverified::new(it).check_signed(&net()));
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {at}");
        }
    }
}
