use core::fmt;
use std::sync::{Arc, OnceLock};

use ark_bn254::{Bn254, Fr};
use ark_ec::AffineRepr;
use ark_groth16::Groth16;
use ark_relations::gr1cs::SynthesisError;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize, Compress, Valid};
use ark_snark::SNARK;
use nonos_identity::Digest;

use super::circuit::{Blank, circuit_digest};
use super::matrices::Matrices;
use super::stream::Stream;
use crate::domains;
use crate::proof::{Profile, VerifyingKeyId};

/// Where keys come from; part of the verifying key's id, so that it cannot be relabelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provenance {
    /// From a published seed: anybody can forge proofs. For development and tests.
    InsecureDev {
        /// The seed.
        seed: [u8; 32],
    },
    /// From a setup ceremony: sound if one contributor forgot its secret.
    Ceremony {
        /// The transcript of the ceremony; compare it with those that the contributors published.
        transcript: [u8; 32],
    },
}

/// Why keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Keys of a development setup, and the caller did not say that this is meant.
    #[error("keys come from an insecure development setup")]
    InsecureDev,
    /// The bytes were cut or altered.
    #[error("key bytes are corrupt")]
    Corrupt,
    /// Keys of another circuit than this version's.
    #[error("keys belong to another circuit")]
    Circuit,
    /// Points off the curve, outside their group, or a setup that was never finished.
    #[error("verifying key is not sound")]
    Unsound,
    /// Keys for receipts where those for transit are needed, or the other way round. The caller's fault.
    #[error("keys are for proofs of another kind")]
    Kind,
    /// The setup itself failed.
    #[error("setup failed")]
    Setup,
}

/// Proving and verifying key of one circuit; cheap to clone.
#[derive(Clone)]
pub struct KeySet {
    proving: Arc<ark_groth16::ProvingKey<Bn254>>,
    verifying: VerifyingKey,
    /// Built for the first proof and kept, for all clones.
    matrices: Arc<OnceLock<Result<Matrices<Fr>, SynthesisError>>>,
}

/// The verifying key of one circuit; cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey {
    profile: Profile,
    circuit: Digest,
    provenance: Provenance,
    key: Arc<ark_groth16::VerifyingKey<Bn254>>,
    id: VerifyingKeyId,
    insecure_dev_allowed: bool,
}

/// Leads the bytes of a key set.
const SET_MAGIC: &[u8; 8] = b"NNZKSET1";
/// Leads the bytes of a verifying key.
const KEY_MAGIC: &[u8; 8] = b"NNZKVK\x001";

/// What stands before the key material: magic, integrity digest, profile, circuit, provenance.
struct Label {
    profile: Profile,
    circuit: Digest,
    provenance: Provenance,
}

impl KeySet {
    /// Longest key set read, in bytes. `Lite` has about 4 MB and `Full` 78 MB; the bound stops a wrong
    /// file from filling the memory.
    pub const MAX_BYTES: usize = 128 << 20;

    /// The development setup: the randomness comes from a published seed, so **anybody can forge
    /// proofs** for these keys. Provers and verifiers refuse them until
    /// [`Self::allow_insecure_dev`]. Takes seconds; [`KeyCache`](super::KeyCache) keeps the result.
    ///
    /// # Errors
    /// [`KeyError::Setup`] if the engine fails.
    pub fn dev_setup(profile: Profile) -> Result<Self, KeyError> {
        let seed = *Digest::of(domains::DEV_SETUP, &[]).as_bytes();
        let mut rng = Stream::from_seed(seed);
        let (proving, _) = Groth16::<Bn254>::circuit_specific_setup(Blank::of(profile), &mut rng)
            .map_err(|_| KeyError::Setup)?;
        let label =
            Label { profile, circuit: circuit_digest(profile), provenance: Provenance::InsecureDev { seed } };
        Self::new(label, proving)
    }

    fn new(label: Label, proving: ark_groth16::ProvingKey<Bn254>) -> Result<Self, KeyError> {
        let verifying = VerifyingKey::new(label, proving.vk.clone())?;
        Ok(Self { proving: Arc::new(proving), verifying, matrices: Arc::default() })
    }

    /// Keys of a ceremony that was verified.
    pub(super) fn from_ceremony(
        profile: Profile,
        circuit: Digest,
        transcript: [u8; 32],
        proving: ark_groth16::ProvingKey<Bn254>,
    ) -> Result<Self, KeyError> {
        let label = Label { profile, circuit, provenance: Provenance::Ceremony { transcript } };
        Self::new(label, proving)
    }

    /// Allows these keys although they may come from [`Self::dev_setup`].
    #[must_use]
    pub fn allow_insecure_dev(mut self) -> Self {
        self.verifying.insecure_dev_allowed = true;
        self
    }

    /// The verifying key alone.
    #[must_use]
    pub const fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// The circuit they are for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.verifying.profile
    }

    /// Where they come from.
    #[must_use]
    pub const fn provenance(&self) -> Provenance {
        self.verifying.provenance
    }

    /// Integrity-checked bytes: label, then the proving key uncompressed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = self.verifying.label().to_bytes();
        append(&*self.proving, Compress::No, &mut body);
        seal(SET_MAGIC, &body)
    }

    /// Reads bytes of [`Self::to_bytes`] back.
    ///
    /// The digest finds accidents, not forgeries: read key sets only from where nobody else can
    /// write. The verifying key is checked point by point.
    ///
    /// # Errors
    /// [`KeyError`] if the bytes are corrupt, of another circuit or unsound.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(KeyError::Corrupt);
        }
        let (label, mut material) = Label::parse(open(SET_MAGIC, bytes)?)?;
        let proving = ark_groth16::ProvingKey::<Bn254>::deserialize_uncompressed_unchecked(&mut material)
            .map_err(|_| KeyError::Corrupt)?;
        if !material.is_empty() {
            return Err(KeyError::Corrupt);
        }
        Self::new(label, proving)
    }

    pub(super) fn proving(&self) -> &ark_groth16::ProvingKey<Bn254> {
        &self.proving
    }

    /// The constraints of the circuit.
    pub(super) fn matrices(&self) -> Result<&Matrices<Fr>, SynthesisError> {
        let build = || Matrices::of(Blank::of(self.profile()));
        self.matrices.get_or_init(build).as_ref().map_err(|error| *error)
    }
}

impl VerifyingKey {
    /// Length of the bytes of a verifying key for a profile.
    #[must_use]
    pub const fn bytes(profile: Profile) -> usize {
        8 + 32 + Label::BYTES + 32 + 3 * 64 + 8 + 32 * (profile.public_inputs() + 1)
    }

    fn new(label: Label, key: ark_groth16::VerifyingKey<Bn254>) -> Result<Self, KeyError> {
        let Label { profile, circuit, provenance } = label;
        if circuit != circuit_digest(profile) {
            return Err(KeyError::Circuit);
        }
        check_sound(&key, profile)?;
        let mut bytes = Vec::new();
        append(&key, Compress::Yes, &mut bytes);
        let label = Label { profile, circuit, provenance }.to_bytes();
        let id = VerifyingKeyId::from_digest(Digest::of(domains::VERIFYING_KEY, &[&label, &bytes]));
        Ok(Self { profile, circuit, provenance, key: Arc::new(key), id, insecure_dev_allowed: false })
    }

    /// The verifying key of [`KeySet::dev_setup`], for those who prove nothing: it is the same
    /// everywhere, so nobody has to make the set for it. As **insecure** as the set.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the bytes are the crate's own; a test reads them all")]
    pub fn dev(profile: Profile) -> Self {
        let bytes: &[u8] = match profile {
            Profile::Lite => include_bytes!("dev/lite.vk"),
            Profile::Full => include_bytes!("dev/full.vk"),
            Profile::Transit => include_bytes!("dev/transit.vk"),
        };
        Self::from_bytes(bytes).expect("a test reads them and makes them anew")
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> VerifyingKeyId {
        self.id
    }

    /// The circuit it is for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Digest of the constraint matrices of that circuit.
    #[must_use]
    pub const fn circuit(&self) -> Digest {
        self.circuit
    }

    /// Where it comes from.
    #[must_use]
    pub const fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// Allows this key although it may come from [`KeySet::dev_setup`].
    #[must_use]
    pub fn allow_insecure_dev(mut self) -> Self {
        self.insecure_dev_allowed = true;
        self
    }

    /// Its bytes, as many as [`Self::bytes`] says.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = self.label().to_bytes();
        append(&*self.key, Compress::Yes, &mut body);
        seal(KEY_MAGIC, &body)
    }

    /// Reads a verifying key and checks every point. Compare [`Self::id`] with a pinned one.
    ///
    /// # Errors
    /// [`KeyError`] if the bytes are corrupt, of another circuit or unsound.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if Profile::ALL.into_iter().all(|profile| bytes.len() != Self::bytes(profile)) {
            return Err(KeyError::Corrupt);
        }
        let (label, mut material) = Label::parse(open(KEY_MAGIC, bytes)?)?;
        let key = ark_groth16::VerifyingKey::<Bn254>::deserialize_compressed(&mut material)
            .map_err(|_| KeyError::Unsound)?;
        if !material.is_empty() {
            return Err(KeyError::Corrupt);
        }
        Self::new(label, key)
    }

    /// Refuses keys that are not for proofs of receipts, or not for those of transit.
    pub(super) fn check_kind(&self, is_transit: bool) -> Result<(), KeyError> {
        if (self.profile == Profile::Transit) == is_transit { Ok(()) } else { Err(KeyError::Kind) }
    }

    /// Refuses keys of a development setup unless the caller allowed them.
    pub(super) const fn check_allowed(&self) -> Result<(), KeyError> {
        match self.provenance {
            Provenance::InsecureDev { .. } if !self.insecure_dev_allowed => Err(KeyError::InsecureDev),
            Provenance::InsecureDev { .. } | Provenance::Ceremony { .. } => Ok(()),
        }
    }

    pub(super) fn key(&self) -> &ark_groth16::VerifyingKey<Bn254> {
        &self.key
    }

    const fn label(&self) -> Label {
        Label { profile: self.profile, circuit: self.circuit, provenance: self.provenance }
    }
}

impl Label {
    const BYTES: usize = 1 + 32 + 1 + 32;

    fn to_bytes(&self) -> Vec<u8> {
        let profile = match self.profile {
            Profile::Lite => 1,
            Profile::Full => 2,
            Profile::Transit => 3,
        };
        let (provenance, origin) = match self.provenance {
            Provenance::InsecureDev { seed } => (0, seed),
            Provenance::Ceremony { transcript } => (1, transcript),
        };
        [&[profile], &self.circuit.as_bytes()[..], &[provenance], &origin].concat()
    }

    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), KeyError> {
        let (label, rest) = bytes.split_first_chunk::<{ Self::BYTES }>().ok_or(KeyError::Corrupt)?;
        let [profile, label @ ..] = label;
        let profile = match profile {
            1 => Profile::Lite,
            2 => Profile::Full,
            3 => Profile::Transit,
            _ => return Err(KeyError::Circuit),
        };
        let (circuit, label) = label.split_first_chunk::<32>().ok_or(KeyError::Corrupt)?;
        let provenance = match label {
            [0, seed @ ..] => {
                Provenance::InsecureDev { seed: seed.try_into().map_err(|_| KeyError::Corrupt)? }
            }
            [1, transcript @ ..] => {
                Provenance::Ceremony { transcript: transcript.try_into().map_err(|_| KeyError::Corrupt)? }
            }
            _ => return Err(KeyError::Corrupt),
        };
        Ok((Self { profile, circuit: Digest::from_bytes(*circuit), provenance }, rest))
    }
}

/// A verifying key that a finished setup of this circuit can have: all points in their groups,
/// none the identity, and gamma not delta (which is how a skipped second phase looks).
fn check_sound(key: &ark_groth16::VerifyingKey<Bn254>, profile: Profile) -> Result<(), KeyError> {
    let identity = key.alpha_g1.is_zero()
        || [key.beta_g2, key.gamma_g2, key.delta_g2].iter().any(AffineRepr::is_zero)
        || key.gamma_abc_g1.iter().any(AffineRepr::is_zero);
    let complete = key.gamma_abc_g1.len() == profile.public_inputs() + 1;
    if identity || !complete || key.gamma_g2 == key.delta_g2 || key.check().is_err() {
        return Err(KeyError::Unsound);
    }
    Ok(())
}

fn append(key: &impl CanonicalSerialize, form: Compress, bytes: &mut Vec<u8>) {
    key.serialize_with_mode(bytes, form).expect("a vector takes every write");
}

fn seal(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    [&magic[..], Digest::of(domains::KEY_SET, &[magic, body]).as_ref(), body].concat()
}

fn open<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Result<&'a [u8], KeyError> {
    let rest = bytes.strip_prefix(magic).ok_or(KeyError::Corrupt)?;
    let (digest, body) = rest.split_first_chunk::<32>().ok_or(KeyError::Corrupt)?;
    if Digest::of(domains::KEY_SET, &[magic, body]).as_bytes() != digest {
        return Err(KeyError::Corrupt);
    }
    Ok(body)
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.verifying).finish()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("profile", &self.profile)
            .field("provenance", &self.provenance)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
