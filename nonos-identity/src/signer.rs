use crate::domain::Domain;
use crate::identity::Identity;
use crate::key::{NodeId, PublicKey, Signature, SigningKey};
use crate::network::NetworkId;

/// Whoever holds the root key of a node: software, a token, a process elsewhere.
///
/// It signs tagged messages only, `domain || network || message`, so a signature obtained for one
/// purpose or network means nothing for another. There is no call that returns the key. Calls
/// may block (a token, a person who touches it); they are safe from several threads.
pub trait RootSigner: Send + Sync {
    /// The public root key. It never changes while the value lives.
    fn public(&self) -> PublicKey;

    /// Signs `domain || network || message` by the rule *NONOS-Ed25519-v1*.
    ///
    /// # Errors
    /// [`SignerError`]; nothing was signed.
    fn sign_root(
        &self,
        domain: Domain,
        network: &NetworkId,
        message: &[u8],
    ) -> Result<Signature, SignerError>;

    /// The id of the node whose root this is.
    fn node_id(&self) -> NodeId {
        self.public().node_id()
    }
}

/// Why a root key did not sign, or a seed or secret was not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// It cannot be reached: no token, a lost session, a dead process. Trying again may help.
    #[error("the signer cannot be reached: {0}")]
    Unavailable(String),
    /// It was reached and said no: a wrong PIN, a missing touch, a policy of its own.
    #[error("the signer refused: {0}")]
    Refused(String),
    /// What it returned does not verify strictly under its public key. Its own fault.
    #[error("the signer returned what does not verify")]
    Faulty,
}

impl RootSigner for SigningKey {
    fn public(&self) -> PublicKey {
        Self::public(self)
    }

    fn sign_root(
        &self,
        domain: Domain,
        network: &NetworkId,
        message: &[u8],
    ) -> Result<Signature, SignerError> {
        Ok(self.sign(domain, network, message))
    }
}

impl RootSigner for Identity {
    fn public(&self) -> PublicKey {
        self.root_key().public()
    }

    fn sign_root(
        &self,
        domain: Domain,
        network: &NetworkId,
        message: &[u8],
    ) -> Result<Signature, SignerError> {
        Ok(self.root_key().sign(domain, network, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::CERTIFICATE;

    #[test]
    fn software_signs_for_one_domain_and_network() {
        let identity = Identity::from_seed(&[7; 64]);
        let (one, two) = (NetworkId::from_name("one"), NetworkId::from_name("two"));
        let key = identity.root_key();
        let signers: [&dyn RootSigner; 2] = [&key, &identity];
        for signer in signers {
            assert_eq!(signer.node_id(), identity.node_id());
            let signature = signer.sign_root(CERTIFICATE, &one, b"m").expect("software signs");
            let verify = |network, message| signer.public().verify(CERTIFICATE, network, message, &signature);
            assert!(verify(&one, b"m").is_ok());
            assert!(verify(&two, b"m").is_err() && verify(&one, b"n").is_err());
        }
    }
}
