use core::time::Duration;

use minicbor::{Decode, Encode};

use crate::digest::Digest;
use crate::domains::{CERTIFICATE, CERTIFICATE_ID, POSSESSION};
use crate::key::{NodeId, PublicKey, Signature, SigningKey};
use crate::network::NetworkId;
use crate::role::Role;
use crate::signer::{RootSigner, SignerError};
use crate::time::Timestamp;
use crate::verified::{Unverified, Verified};
use crate::wire::{self, Wire};

/// The certificate format this crate writes and the only one it reads.
const VERSION: u8 = 1;

/// What both signatures cover.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Terms {
    #[cbor(n(0), decode_with = "decode_version")]
    version: u8,
    #[n(1)]
    root: PublicKey,
    #[n(2)]
    role: Role,
    #[n(3)]
    subject: PublicKey,
    #[n(4)]
    serial: u64,
    #[n(5)]
    not_before: Timestamp,
    #[n(6)]
    not_after: Timestamp,
}

impl Wire for Terms {
    const MAX_BYTES: usize = 128;
}

fn decode_version<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<u8, minicbor::decode::Error> {
    match d.u8()? {
        VERSION => Ok(VERSION),
        _ => Err(minicbor::decode::Error::message("unknown version")),
    }
}

/// A statement of a root key that another key acts for its node in one role.
///
/// Wire form: `[[version, root, role, subject, serial, not_before, not_after], root_signature,
/// possession]`. Both signatures cover `domain || network_id || terms`; the subject's proves
/// that whoever asked for the certificate holds the key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    signature: Signature,
    #[n(2)]
    possession: Signature,
}

impl Wire for Certificate {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 2 * 66 + 1;
}

/// Why a certificate was not issued or does not count. Of a received certificate it is always
/// the fault of whoever presented it, but for clock skew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Valid for no time at all or for longer than [`Certificate::MAX_LIFETIME`].
    #[error("lifetime of {} s is not within 1 s and {} s", .0.as_secs(), Certificate::MAX_LIFETIME.as_secs())]
    Lifetime(Duration),
    /// The root key cannot be certified, nor serve in another role.
    #[error("a root key neither has nor needs a certificate")]
    RootAsSubject,
    /// For another role than expected.
    #[error("certificate for role {found} where {expected} is expected")]
    Role {
        /// The role the caller asked for.
        expected: Role,
        /// The role in the certificate.
        found: Role,
    },
    /// Not valid yet, beyond the allowed clock skew.
    #[error("not valid before {0}")]
    NotYetValid(Timestamp),
    /// Past its validity.
    #[error("expired at {0}")]
    Expired(Timestamp),
    /// The root did not sign it for this network.
    #[error("root signature does not verify")]
    RootSignature,
    /// The subject did not sign it for this network.
    #[error("proof of possession does not verify")]
    Possession,
    /// A request for another root than the one that is asked to grant it.
    #[error("request for another root")]
    OtherRoot,
    /// The holder of the root key did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// A certificate that only lacks the root's signature: what travels to a root key kept offline.
///
/// Wire form: `[terms, possession]`, as in [`Certificate`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CertificateRequest {
    #[n(0)]
    terms: Terms,
    #[n(1)]
    possession: Signature,
}

impl Wire for CertificateRequest {
    const MAX_BYTES: usize = Terms::MAX_BYTES + 66 + 1;
}

impl CertificateRequest {
    /// Asks a root to certify a role key from `not_before` on for whole seconds of `lifetime`.
    ///
    /// # Errors
    /// [`CertificateError::Lifetime`] or [`CertificateError::RootAsSubject`]; the caller's fault.
    pub fn new(
        root: PublicKey,
        subject: &SigningKey,
        role: Role,
        serial: u64,
        not_before: Timestamp,
        lifetime: Duration,
        network: &NetworkId,
    ) -> Result<Self, CertificateError> {
        let terms = Terms {
            version: VERSION,
            root,
            role,
            subject: subject.public(),
            serial,
            not_before,
            not_after: not_before.saturating_add(lifetime),
        };
        terms.check()?;
        let possession = subject.sign(POSSESSION, network, &wire::to_bytes(&terms));
        Ok(Self { terms, possession })
    }

    /// Grants the request: the terms as they stand, for a key that whoever asks does hold.
    /// Whether the node should have them is for the one who calls this to see.
    ///
    /// # Errors
    /// [`CertificateError`] if the request breaks a rule or is for another root, or the root
    /// key did not sign.
    pub fn grant(self, root: &dyn RootSigner, network: &NetworkId) -> Result<Certificate, CertificateError> {
        let Self { terms, possession } = self;
        if root.public() != terms.root {
            return Err(CertificateError::OtherRoot);
        }
        terms.check()?;
        let bytes = wire::to_bytes(&terms);
        terms
            .subject
            .verify(POSSESSION, network, &bytes, &possession)
            .map_err(|_| CertificateError::Possession)?;
        let signature = root.sign_root(CERTIFICATE, network, &bytes)?;
        Ok(Certificate { terms, signature, possession })
    }

    /// What the subject may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.terms.role
    }

    /// The key to be certified.
    #[must_use]
    pub const fn subject(&self) -> PublicKey {
        self.terms.subject
    }

    /// Number by which a revocation would name it.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.terms.serial
    }

    /// The first second of its validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.terms.not_before
    }

    /// The first second at which it would no longer be valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.terms.not_after
    }
}

impl Certificate {
    /// Longest validity. It bounds how long a stolen role key is of use.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Certifies a role key from `not_before` on for whole seconds of `lifetime`.
    ///
    /// # Errors
    /// [`CertificateError::Lifetime`] or [`CertificateError::RootAsSubject`], the caller's fault;
    /// [`CertificateError::Signer`] if the root key did not sign.
    pub fn issue(
        root: &dyn RootSigner,
        subject: &SigningKey,
        role: Role,
        serial: u64,
        not_before: Timestamp,
        lifetime: Duration,
        network: &NetworkId,
    ) -> Result<Self, CertificateError> {
        CertificateRequest::new(root.public(), subject, role, serial, not_before, lifetime, network)?
            .grant(root, network)
    }

    /// Its digest: by it other records name exactly this certificate.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(CERTIFICATE_ID, &[&wire::to_bytes(self)])
    }

    /// The node on whose behalf the subject acts.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.terms.root.node_id()
    }

    /// What the subject may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.terms.role
    }

    /// The certified key.
    #[must_use]
    pub const fn subject(&self) -> PublicKey {
        self.terms.subject
    }

    /// Number by which a revocation names it.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.terms.serial
    }

    /// The first second of its validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.terms.not_before
    }

    /// The first second at which it is no longer valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.terms.not_after
    }
}

impl Terms {
    /// The rules that need no signature; they bind issuers and verifiers alike.
    fn check(&self) -> Result<(), CertificateError> {
        let lifetime = self.not_after.saturating_since(self.not_before);
        if lifetime.is_zero() || lifetime > Certificate::MAX_LIFETIME {
            return Err(CertificateError::Lifetime(lifetime));
        }
        if self.role == Role::RootSign || self.subject == self.root {
            return Err(CertificateError::RootAsSubject);
        }
        Ok(())
    }
}

impl Unverified<Certificate> {
    /// Checks role, validity at `now` and both signatures.
    ///
    /// # Errors
    /// [`CertificateError`] names the first check that failed.
    pub fn check_issued(
        self,
        role: Role,
        network: &NetworkId,
        now: Timestamp,
    ) -> Result<Verified<Certificate>, CertificateError> {
        self.check(|certificate| {
            let Certificate { terms, signature, possession } = certificate;
            if terms.role != role {
                return Err(CertificateError::Role { expected: role, found: terms.role });
            }
            terms.check()?;
            if terms.not_before > now.saturating_add(Timestamp::MAX_SKEW) {
                return Err(CertificateError::NotYetValid(terms.not_before));
            }
            if terms.not_after <= now {
                return Err(CertificateError::Expired(terms.not_after));
            }
            let bytes = wire::to_bytes(terms);
            terms
                .root
                .verify(CERTIFICATE, network, &bytes, signature)
                .map_err(|_| CertificateError::RootSignature)?;
            terms
                .subject
                .verify(POSSESSION, network, &bytes, possession)
                .map_err(|_| CertificateError::Possession)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Domain;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn issue() -> Certificate {
        Certificate::issue(&key(1), &key(2), Role::Transport, 9, NOW, DAY, &net()).expect("within the rules")
    }

    fn check(certificate: Certificate) -> Result<Verified<Certificate>, CertificateError> {
        Unverified::new(certificate).check_issued(Role::Transport, &net(), NOW)
    }

    /// Signs terms that `issue` would refuse.
    fn sign(terms: Terms, root: &SigningKey, subject: &SigningKey) -> Certificate {
        let bytes = wire::to_bytes(&terms);
        let signature = root.sign(CERTIFICATE, &net(), &bytes);
        let possession = subject.sign(POSSESSION, &net(), &bytes);
        Certificate { terms, signature, possession }
    }

    #[test]
    fn an_issued_certificate_checks_and_says_what_was_issued() {
        let bytes = wire::to_bytes(&issue());
        let certificate = check(wire::from_bytes(&bytes).expect("canonical")).expect("valid");
        assert_eq!(certificate.node(), key(1).public().node_id());
        assert_eq!(certificate.subject(), key(2).public());
        assert_eq!((certificate.role(), certificate.serial()), (Role::Transport, 9));
        assert_eq!(certificate.not_before(), NOW);
        assert_eq!(certificate.not_after(), NOW.saturating_add(DAY));
    }

    #[test]
    fn both_keys_must_have_signed() {
        let stranger = Certificate::issue(&key(3), &key(4), Role::Transport, 9, NOW, DAY, &net());
        let stranger = stranger.expect("within the rules");
        let forged = Certificate { signature: stranger.signature, ..issue() };
        assert_eq!(check(forged), Err(CertificateError::RootSignature));
        let stolen = Certificate { possession: stranger.possession, ..issue() };
        assert_eq!(check(stolen), Err(CertificateError::Possession));
        let swapped = Certificate { signature: issue().possession, possession: issue().signature, ..issue() };
        assert_eq!(check(swapped), Err(CertificateError::RootSignature));

        // The root claims a key it does not hold: it signs both parts itself.
        let claimed = sign(issue().terms, &key(1), &key(1));
        assert_eq!(check(claimed), Err(CertificateError::Possession));
    }

    #[test]
    fn role_network_and_time_are_checked() {
        let check = |role, net: &NetworkId, now| Unverified::new(issue()).check_issued(role, net, now);
        let role = CertificateError::Role { expected: Role::Author, found: Role::Transport };
        assert_eq!(check(Role::Author, &net(), NOW), Err(role));
        let other = NetworkId::from_name("other");
        assert_eq!(check(Role::Transport, &other, NOW), Err(CertificateError::RootSignature));

        let end = NOW.saturating_add(DAY);
        assert!(check(Role::Transport, &net(), Timestamp::from_secs(end.as_secs() - 1)).is_ok());
        assert_eq!(check(Role::Transport, &net(), end), Err(CertificateError::Expired(end)));
        let early = NOW.as_secs() - Timestamp::MAX_SKEW.as_secs();
        assert!(check(Role::Transport, &net(), Timestamp::from_secs(early)).is_ok());
        let too_early = Timestamp::from_secs(early - 1);
        assert_eq!(check(Role::Transport, &net(), too_early), Err(CertificateError::NotYetValid(NOW)));
    }

    #[test]
    fn issuer_and_verifier_apply_the_same_limits() {
        let issue_for =
            |lifetime| Certificate::issue(&key(1), &key(2), Role::Author, 0, NOW, lifetime, &net());
        let second = Duration::from_secs(1);
        assert!(issue_for(Certificate::MAX_LIFETIME).is_ok());
        let long = Certificate::MAX_LIFETIME + second;
        assert_eq!(issue_for(long), Err(CertificateError::Lifetime(long)));
        assert_eq!(issue_for(Duration::from_millis(999)), Err(CertificateError::Lifetime(Duration::ZERO)));

        let forever = Terms { not_after: NOW.saturating_add(long), ..issue().terms };
        assert_eq!(check(sign(forever, &key(1), &key(2))), Err(CertificateError::Lifetime(long)));
        let never = Terms { not_after: NOW, ..issue().terms };
        let error = CertificateError::Lifetime(Duration::ZERO);
        assert_eq!(check(sign(never, &key(1), &key(2))), Err(error));
    }

    #[test]
    fn a_root_key_is_no_subject() {
        let root = Certificate::issue(&key(1), &key(2), Role::RootSign, 0, NOW, DAY, &net());
        assert_eq!(root, Err(CertificateError::RootAsSubject));
        let itself = Certificate::issue(&key(1), &key(1), Role::Author, 0, NOW, DAY, &net());
        assert_eq!(itself, Err(CertificateError::RootAsSubject));
        let terms = Terms { subject: key(1).public(), ..issue().terms };
        assert_eq!(check(sign(terms, &key(1), &key(1))), Err(CertificateError::RootAsSubject));
    }

    #[test]
    fn no_altered_bit_is_accepted() {
        let bytes = wire::to_bytes(&issue());
        assert!(bytes.len() <= Certificate::MAX_BYTES);
        for at in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let outcome = wire::from_bytes::<Certificate>(&altered).map(check);
            assert!(!matches!(outcome, Ok(Ok(_))), "bit {at}");
        }
    }

    #[test]
    fn a_request_is_granted_by_its_root_for_its_network_to_its_subject() {
        let ask = |network: &NetworkId| {
            CertificateRequest::new(key(1).public(), &key(2), Role::Transport, 9, NOW, DAY, network)
        };
        let request = ask(&net()).expect("within the rules");
        let received: CertificateRequest = wire::from_bytes(&wire::to_bytes(&request)).expect("canonical");
        assert_eq!(received.grant(&key(1), &net()), Ok(issue()));
        assert_eq!(request.clone().grant(&key(3), &net()), Err(CertificateError::OtherRoot));
        let other = ask(&NetworkId::from_name("other")).expect("within the rules");
        assert_eq!(other.grant(&key(1), &net()), Err(CertificateError::Possession));
        let stolen = Terms { subject: key(3).public(), ..request.terms.clone() };
        let stolen = CertificateRequest { terms: stolen, ..request.clone() };
        assert_eq!(stolen.grant(&key(1), &net()), Err(CertificateError::Possession));
        let long = Terms { not_after: NOW.saturating_add(DAY * 31), ..request.terms };
        let possession = key(2).sign(POSSESSION, &net(), &wire::to_bytes(&long));
        let refused = CertificateRequest { terms: long, possession }.grant(&key(1), &net());
        assert_eq!(refused, Err(CertificateError::Lifetime(DAY * 31)));
    }

    #[test]
    fn a_root_that_does_not_sign_is_told_apart() {
        struct Locked;
        impl RootSigner for Locked {
            fn public(&self) -> PublicKey {
                key(1).public()
            }
            fn sign_root(&self, _: Domain, _: &NetworkId, _: &[u8]) -> Result<Signature, SignerError> {
                Err(SignerError::Refused("locked".into()))
            }
        }
        let refused = Certificate::issue(&Locked, &key(2), Role::Author, 0, NOW, DAY, &net());
        assert_eq!(refused, Err(CertificateError::Signer(SignerError::Refused("locked".into()))));
    }

    #[test]
    fn the_longest_certificate_fits() {
        let end = Timestamp::from_secs(u64::MAX);
        let start = Timestamp::from_secs(u64::MAX - 1);
        let terms = Terms { serial: u64::MAX, not_before: start, not_after: end, ..issue().terms };
        let longest = wire::to_bytes(&sign(terms, &key(1), &key(2)));
        assert!(wire::from_bytes::<Certificate>(&longest).is_ok());
    }

    #[test]
    fn a_later_version_is_refused() {
        let terms = Terms { version: VERSION + 1, ..issue().terms };
        let bytes = wire::to_bytes(&sign(terms, &key(1), &key(2)));
        assert_eq!(wire::from_bytes::<Certificate>(&bytes), Err(wire::DecodeError::Malformed));
    }
}
