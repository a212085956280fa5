use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{NetworkId, PublicKey, Signature, SigningKey, Timestamp, Unverified, Verified};
use serde::{Deserialize, Serialize};

use crate::capsule::CapsuleId;
use crate::chunk::ChunkError;
use crate::dependency::DependencyError;
use crate::domains::CAPSULE_SIGNATURE;
use crate::head::Head;
use crate::manifest::ManifestError;
use crate::policy::PolicyError;

/// In which role somebody signs a capsule.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SignerRole {
    /// Made it.
    #[n(0)]
    Author,
    /// Read it.
    #[n(1)]
    Auditor,
    /// Runs it.
    #[n(2)]
    Operator,
}

/// One signature over a capsule id, with who, as what and for how long.
///
/// Signed bytes: the CBOR array `[capsule_id, role, not_before, expiry]` under the domain
/// `nonos/capsule/signature/v1` and the network id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct SignatureRecord {
    /// The role.
    #[n(0)]
    pub role: SignerRole,
    /// The signer.
    #[n(1)]
    pub key: PublicKey,
    /// The first second of its validity.
    #[n(2)]
    pub not_before: Timestamp,
    /// The first second after its validity.
    #[n(3)]
    pub expiry: Timestamp,
    /// The signature.
    #[n(4)]
    pub signature: Signature,
}

#[derive(Encode, Decode)]
struct Statement {
    #[n(0)]
    id: CapsuleId,
    #[n(1)]
    role: SignerRole,
    #[n(2)]
    not_before: Timestamp,
    #[n(3)]
    expiry: Timestamp,
}

impl Wire for Statement {
    const MAX_BYTES: usize = 128;
}

impl SignatureRecord {
    pub(crate) fn sign(
        id: CapsuleId,
        role: SignerRole,
        key: &SigningKey,
        network: &NetworkId,
        not_before: Timestamp,
        lifetime: Duration,
    ) -> Self {
        let expiry = not_before.saturating_add(lifetime);
        let statement = wire::to_bytes(&Statement { id, role, not_before, expiry });
        let signature = key.sign(CAPSULE_SIGNATURE, network, &statement);
        Self { role, key: key.public(), not_before, expiry, signature }
    }

    /// The order of signatures in a capsule, and what makes two of them duplicates.
    pub(crate) fn sort_key(&self) -> (SignerRole, [u8; 32]) {
        (self.role, *self.key.as_bytes())
    }

    fn verify(&self, id: CapsuleId, network: &NetworkId) -> Result<(), VerifyError> {
        let Self { role, not_before, expiry, .. } = *self;
        let statement = wire::to_bytes(&Statement { id, role, not_before, expiry });
        self.key
            .verify(CAPSULE_SIGNATURE, network, &statement, &self.signature)
            .map_err(|_| VerifyError::Signature(self.key))
    }

    fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now.saturating_add(Timestamp::MAX_SKEW) && now < self.expiry
    }
}

/// How many different signers of each role must have signed, with signatures valid now. The one
/// in the manifest is signed with it, so nobody can take an author's demand away.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Authors; 0 counts as 1.
    #[n(0)]
    pub author: u8,
    /// Auditors.
    #[n(1)]
    pub auditor: u8,
    /// Operators.
    #[n(2)]
    pub operator: u8,
}

/// What a verifier asks of the signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePolicy {
    /// The network the signatures are for.
    pub network: NetworkId,
    /// Least signers of each role; the larger of this and the manifest's own counts.
    pub thresholds: Thresholds,
    /// Keys whose signatures count, by role (TUF's delegations); a role without a list counts
    /// every key. A key that signs outside of its role's list counts nothing and harms nothing.
    pub trusted: BTreeMap<SignerRole, BTreeSet<PublicKey>>,
}

impl SignaturePolicy {
    /// One author, whoever that is, and no auditor.
    #[must_use]
    pub const fn new(network: NetworkId) -> Self {
        let thresholds = Thresholds { author: 1, auditor: 0, operator: 0 };
        Self { network, thresholds, trusted: BTreeMap::new() }
    }

    /// Every signature and attestation must verify, also the expired ones and those beyond the
    /// threshold: a record that carries a false one was tampered with.
    pub(crate) fn check(&self, head: &Head, now: Timestamp) -> Result<(), VerifyError> {
        let (own, theirs) = (&self.thresholds, &head.manifest().thresholds);
        for (role, threshold) in [
            (SignerRole::Author, own.author.max(theirs.author).max(1)),
            (SignerRole::Auditor, own.auditor.max(theirs.auditor)),
            (SignerRole::Operator, own.operator.max(theirs.operator)),
        ] {
            let trusted = self.trusted.get(&role);
            let counts = |record: &&SignatureRecord| {
                record.role == role
                    && record.is_valid_at(now)
                    && trusted.is_none_or(|keys| keys.contains(&record.key))
            };
            // Signers are distinct within a role: the format is sorted without duplicates.
            let found = head.signatures().iter().filter(counts).count();
            let threshold = usize::from(threshold);
            if found < threshold {
                return Err(VerifyError::Threshold { role, found, threshold });
            }
        }
        head.signatures().iter().try_for_each(|signature| signature.verify(head.id(), &self.network))?;
        head.attestations().iter().try_for_each(|one| one.verify(head.id(), &self.network))
    }
}

/// Why a well-formed capsule or head does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Too few signatures of a role that are valid now: not signed, expired, or clock skew.
    #[error("{found} valid signatures of role {role:?} where {threshold} are required")]
    Threshold {
        /// The role.
        role: SignerRole,
        /// Valid signatures of distinct keys.
        found: usize,
        /// What the policy asks for.
        threshold: usize,
    },
    /// The signature of this key is false: altered, or made for another network.
    #[error("signature of {0} does not verify")]
    Signature(PublicKey),
    /// A statement of this key is false: altered, or made for another capsule or network.
    #[error("attestation of {0} does not verify")]
    Attestation(PublicKey),
    /// The payload is not the one of the signed digest. The sender's fault.
    #[error("payload does not match its signed digest")]
    Payload,
    /// The root over the chunks is not that of the payload. The author's fault.
    #[error("chunk root does not match the payload")]
    ChunkRoot,
    /// The interface is not that of the payload. The author's fault.
    #[error("interface does not match the payload")]
    Interface,
}

/// Why chunks do not make the capsule of a head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The chunk of this index is not there.
    #[error("chunk {0} is missing")]
    Missing(u32),
    /// A chunk was checked against another head.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// All chunks match the root and still the payload is not that of the manifest. The
    /// author's fault.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Why a capsule could not be packed. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The manifest breaks a rule.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The policy breaks a rule.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The list of dependencies breaks a rule.
    #[error(transparent)]
    Dependencies(#[from] DependencyError),
    /// Nothing to run.
    #[error("payload is empty")]
    Empty,
    /// The payload does not fit a capsule.
    #[error("payload of {len} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a capsule could not be signed. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// As many signatures as a capsule may carry.
    #[error("a capsule carries at most {0} signatures")]
    TooMany(usize),
}

/// Checks signatures and, where there is one, the payload.
///
/// A trait only because [`Unverified`] is a type of the identity crate.
pub trait CheckSigned {
    /// What comes out.
    type Checked;

    /// Checks every signature, the thresholds at `now`, and the payload against its digests.
    ///
    /// # Errors
    /// [`VerifyError`] names the first check that failed.
    fn check_signed(
        self,
        policy: &SignaturePolicy,
        now: Timestamp,
    ) -> Result<Verified<Self::Checked>, VerifyError>;
}

impl CheckSigned for Unverified<Head> {
    type Checked = Head;

    fn check_signed(self, policy: &SignaturePolicy, now: Timestamp) -> Result<Verified<Head>, VerifyError> {
        self.check(|head| policy.check(head, now))
    }
}

impl CheckSigned for Unverified<crate::Capsule> {
    type Checked = crate::Capsule;

    fn check_signed(
        self,
        policy: &SignaturePolicy,
        now: Timestamp,
    ) -> Result<Verified<crate::Capsule>, VerifyError> {
        self.check(|capsule| {
            policy.check(&capsule.head, now)?;
            capsule.check_payload()
        })
    }
}
