use core::fmt;

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine};
use ark_ec::{AffineRepr as _, CurveGroup as _};
use ark_ff::Field as _;
use ark_groth16::ProvingKey;
use nonos_identity::{Digest, RunningDigest};
use zeroize::Zeroizing;

use super::super::keys::{KeyError, KeySet};
use super::contribution::{
    Contribution, Fault, Turn, beacon_allowed, beacon_factor, name_allowed, secret_factor,
};
use super::initial::InitialKey;
use super::points::{Weights, absorb, generators, same_ratio, scale, weighted};
use super::{Progress, Step};
use crate::domains;
use crate::proof::Profile;

/// A ceremony and where it stands: the contributions so far and the parameters they led to.
///
/// What no contribution may change is not in it: everybody makes the [`InitialKey`] anew.
#[derive(Clone)]
pub struct Ceremony {
    pub(super) profile: Profile,
    pub(super) circuit: Digest,
    /// Digest of the initial key.
    pub(super) initial: Digest,
    pub(super) contributions: Vec<Contribution>,
    pub(super) parameters: Parameters,
}

/// The part of a proving key that contributions change.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) delta_g1: G1Affine,
    pub(super) delta_g2: G2Affine,
    pub(super) l: Vec<G1Affine>,
    pub(super) h: Vec<G1Affine>,
}

/// Why a ceremony does not hold, or its file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// Not the bytes of a ceremony, or cut, or altered.
    #[error("the ceremony file is corrupt")]
    Corrupt,
    /// A file of a later build.
    #[error("version {0} of the ceremony file is not known")]
    Version(u8),
    /// More contributions or points than any ceremony has.
    #[error("the ceremony file is beyond its limits")]
    Limits,
    /// A ceremony for another circuit, or another version of it.
    #[error("the ceremony is for another circuit")]
    Circuit,
    /// It begins with another key: other powers of tau, or a start that somebody chose.
    #[error("the ceremony does not begin with the key of these powers of tau")]
    Initial,
    /// A contribution is bad. For `L` and `H` it is the last one: those before it can only be told from
    /// their own files.
    #[error("contribution {number} by {name:?} is bad: {fault}")]
    Contribution {
        /// Its number; the first is 1.
        number: usize,
        /// Who made it, as they say.
        name: String,
        /// What is wrong.
        fault: Fault,
    },
    /// Nobody contributed a secret: anybody can compute delta, and forge proofs.
    #[error("nobody contributed a secret to the ceremony")]
    NoContribution,
    /// The parts do not make a sound key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why nothing was contributed. The caller's fault, except for [`Self::Broken`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContributeError {
    /// An empty name, one with control characters or above [`Contribution::NAME_BYTES_MAX`].
    #[error("a name has 1 to {max} bytes and no control characters", max = Contribution::NAME_BYTES_MAX)]
    Name,
    /// A beacon outside the limits of [`Contribution`].
    #[error("a beacon has 1 to {max} bytes and 2^{least} to 2^{most} hashes", max = Contribution::BEACON_BYTES_MAX,
        least = Contribution::BEACON_LOG2_MIN, most = Contribution::BEACON_LOG2_MAX)]
    Beacon,
    /// The beacon closed the ceremony.
    #[error("the ceremony was closed by its beacon")]
    Closed,
    /// There are [`Ceremony::CONTRIBUTIONS_MAX`] already.
    #[error("the ceremony is full")]
    Full,
    /// The chain so far does not hold, so no contribution can make sound keys of it.
    #[error("there is nothing sound to contribute to: {0}")]
    Broken(#[from] CeremonyError),
}

impl Ceremony {
    /// Most contributions in a ceremony; what a forged file can make us check.
    pub const CONTRIBUTIONS_MAX: usize = 1024;

    /// A ceremony that nobody contributed to.
    #[must_use]
    pub fn new(initial: &InitialKey) -> Self {
        Self {
            profile: initial.profile,
            circuit: initial.circuit,
            initial: initial.digest,
            contributions: Vec::new(),
            parameters: Parameters::of(&initial.key),
        }
    }

    /// The circuit the keys are for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Digest of that circuit.
    #[must_use]
    pub const fn circuit(&self) -> Digest {
        self.circuit
    }

    /// Digest of the key it begins with.
    #[must_use]
    pub const fn initial(&self) -> Digest {
        self.initial
    }

    /// The contributions, in order.
    #[must_use]
    pub fn contributions(&self) -> &[Contribution] {
        &self.contributions
    }

    /// The transcript: a hash chain over the initial key and each contribution. Contributors publish it
    /// after their turn; verified keys carry it in their provenance.
    #[must_use]
    pub fn transcript(&self) -> Digest {
        self.contributions.iter().fold(self.start(), |transcript, next| next.extend(&transcript))
    }

    /// Contributes a secret and returns the transcript afterwards.
    ///
    /// `entropy` is 32 fresh random bytes; hashed with the transcript they give the factor, which is wiped
    /// afterwards. One honest contributor, who keeps none of it, is enough for sound keys. The chain so
    /// far is checked as by [`Self::check_chain`]; call [`Self::verify`] first to check L and H, too.
    ///
    /// # Errors
    /// [`ContributeError`] if the name or the ceremony does not allow it.
    pub fn contribute(&mut self, name: &str, entropy: [u8; 32]) -> Result<Digest, ContributeError> {
        let entropy = Zeroizing::new(entropy);
        self.check_open(name)?;
        let transcript = self.transcript();
        let factor = secret_factor(&transcript, name, &entropy);
        let next = self.parameters.times(&factor);
        self.push_secret(name, &factor, &entropy, next);
        Ok(self.transcript())
    }

    /// Contributes a number that everybody can compute from `value`, by `2^iterations_log2` hashes, and
    /// closes the ceremony. Returns the transcript.
    ///
    /// The value must be one that nobody could know when the last secret was contributed: choose it,
    /// say a round of a public randomness beacon or a block of a chain, before.
    ///
    /// # Errors
    /// [`ContributeError`] if name, value or ceremony do not allow it.
    pub fn beacon(
        &mut self,
        name: &str,
        value: &[u8],
        iterations_log2: u8,
    ) -> Result<Digest, ContributeError> {
        self.check_open(name)?;
        if !beacon_allowed(value, iterations_log2) {
            return Err(ContributeError::Beacon);
        }
        let transcript = self.transcript();
        let factor = beacon_factor(&transcript, name, value, iterations_log2);
        let next = self.parameters.times(&factor);
        let digest = next.digest();
        let turn = self.turn(name, &transcript, &next, &digest);
        let contribution = Contribution::public(&turn, value, iterations_log2);
        self.push(contribution, next);
        Ok(self.transcript())
    }

    /// Checks what can be checked without powers of tau: each contribution's delta and proof of knowledge
    /// in its place, beacons, and that the parameters are those the last contributor vouched for.
    ///
    /// # Errors
    /// [`CeremonyError::Contribution`] names the first bad one.
    pub fn check_chain(&self) -> Result<(), CeremonyError> {
        let (mut delta, mut transcript) = (G1Affine::generator(), self.start());
        let mut closed = false;
        for (place, contribution) in self.contributions.iter().enumerate() {
            let fault = |fault| self.fault(place + 1, fault);
            if closed {
                return Err(fault(Fault::AfterBeacon));
            }
            delta = contribution.check(&delta, &transcript).map_err(fault)?;
            closed = contribution.beacon().is_some();
            transcript = contribution.extend(&transcript);
        }
        let Some(last) = self.contributions.last() else { return Ok(()) };
        let fault = |fault| self.fault(self.contributions.len(), fault);
        if last.parameters() != self.parameters.digest() {
            return Err(fault(Fault::Parameters));
        }
        let (g1, g2) = generators();
        let Parameters { delta_g1, delta_g2, .. } = &self.parameters;
        if *delta_g1 != delta || !same_ratio(delta_g1, &g1, delta_g2, &g2) {
            return Err(fault(Fault::Mismatch));
        }
        Ok(())
    }

    /// Checks that this is so far a ceremony that begins with `initial`: the chain, and that L and H are
    /// those of the initial key divided by delta.
    ///
    /// # Errors
    /// [`CeremonyError`]; a bad contribution is named.
    pub fn check(&self, initial: &InitialKey, mut progress: impl FnMut(Step)) -> Result<(), CeremonyError> {
        self.check_with(initial, &mut progress)
    }

    /// Checks the whole ceremony and makes its keys.
    ///
    /// # Errors
    /// [`CeremonyError`]; a bad contribution is named. [`CeremonyError::NoContribution`] if only a beacon,
    /// or nobody, contributed.
    pub fn verify(
        &self,
        initial: &InitialKey,
        mut progress: impl FnMut(Step),
    ) -> Result<KeySet, CeremonyError> {
        let key = self.proving_key(initial, &mut progress)?;
        let transcript = *self.transcript().as_bytes();
        Ok(KeySet::from_ceremony(self.profile, self.circuit, transcript, key)?)
    }

    /// The verified proving key.
    pub(super) fn proving_key(
        &self,
        initial: &InitialKey,
        progress: &mut Progress<'_>,
    ) -> Result<ProvingKey<Bn254>, CeremonyError> {
        self.check_with(initial, progress)?;
        if self.contributions.iter().all(|contribution| contribution.beacon().is_some()) {
            return Err(CeremonyError::NoContribution);
        }
        let Parameters { delta_g1, delta_g2, l, h } = self.parameters.clone();
        let mut key = initial.key.clone();
        key.delta_g1 = delta_g1;
        key.vk.delta_g2 = delta_g2;
        key.l_query = l;
        key.h_query = h;
        Ok(key)
    }

    fn check_with(&self, initial: &InitialKey, progress: &mut Progress<'_>) -> Result<(), CeremonyError> {
        if (self.profile, self.circuit) != (initial.profile, initial.circuit) {
            return Err(CeremonyError::Circuit);
        }
        if self.initial != initial.digest {
            return Err(CeremonyError::Initial);
        }
        progress(Step::CheckChain);
        self.check_chain()?;
        progress(Step::CheckParameters);
        let begin = Parameters::of(&initial.key);
        if self.contributions.is_empty() {
            return if self.parameters == begin { Ok(()) } else { Err(CeremonyError::Initial) };
        }
        let mut weights = Weights::new(&self.transcript());
        let now = &self.parameters;
        let lists = [(&now.l, &begin.l, Fault::L), (&now.h, &begin.h, Fault::H)];
        for (now, begin, fault) in lists {
            let weights = weights.take(begin.len());
            // The weights come from a transcript that holds the digest of the points.
            let holds = now.len() == begin.len() && {
                let now = weighted::<G1Projective>(now, &weights);
                let begin = weighted::<G1Projective>(begin, &weights);
                same_ratio(&begin, &now, &self.parameters.delta_g2, &generators().1)
            };
            if !holds {
                return Err(self.fault(self.contributions.len(), fault));
            }
        }
        Ok(())
    }

    /// What the transcript begins with.
    fn start(&self) -> Digest {
        Digest::of(domains::CEREMONY_CHAIN, &[self.circuit.as_bytes(), self.initial.as_bytes()])
    }

    fn fault(&self, number: usize, fault: Fault) -> CeremonyError {
        let contribution = number.checked_sub(1).and_then(|place| self.contributions.get(place));
        let name = contribution.map(|it| it.name().to_owned()).unwrap_or_default();
        CeremonyError::Contribution { number, name, fault }
    }

    fn check_open(&self, name: &str) -> Result<(), ContributeError> {
        if !name_allowed(name) {
            return Err(ContributeError::Name);
        }
        if self.contributions.last().is_some_and(|last| last.beacon().is_some()) {
            return Err(ContributeError::Closed);
        }
        if self.contributions.len() >= Self::CONTRIBUTIONS_MAX {
            return Err(ContributeError::Full);
        }
        Ok(self.check_chain()?)
    }

    fn turn<'a>(
        &'a self,
        name: &'a str,
        transcript: &'a Digest,
        next: &'a Parameters,
        parameters: &'a Digest,
    ) -> Turn<'a> {
        Turn { name, transcript, before: &self.parameters.delta_g1, after: &next.delta_g1, parameters }
    }

    /// Appends `next`, with the proof that `factor` leads to its delta.
    pub(super) fn push_secret(&mut self, name: &str, factor: &Fr, entropy: &[u8; 32], next: Parameters) {
        let (transcript, digest) = (self.transcript(), next.digest());
        let contribution =
            Contribution::secret(&self.turn(name, &transcript, &next, &digest), factor, entropy);
        self.push(contribution, next);
    }

    fn push(&mut self, contribution: Contribution, next: Parameters) {
        self.contributions.push(contribution);
        self.parameters = next;
    }
}

impl Parameters {
    pub(super) fn of(key: &ProvingKey<Bn254>) -> Self {
        Self {
            delta_g1: key.delta_g1,
            delta_g2: key.vk.delta_g2,
            l: key.l_query.clone(),
            h: key.h_query.clone(),
        }
    }

    /// Delta times the factor, L and H divided by it.
    pub(super) fn times(&self, factor: &Fr) -> Self {
        // Of 0 there is no inverse; `scalar` never gives it.
        let inverse = Zeroizing::new(factor.inverse().unwrap_or_default());
        Self {
            delta_g1: (self.delta_g1 * factor).into_affine(),
            delta_g2: (self.delta_g2 * factor).into_affine(),
            l: scale(&self.l, &inverse),
            h: scale(&self.h, &inverse),
        }
    }

    pub(super) fn digest(&self) -> Digest {
        let mut digest = RunningDigest::new(domains::CEREMONY_PARAMETERS);
        absorb(&mut digest, &[self.delta_g1]);
        absorb(&mut digest, &[self.delta_g2]);
        absorb(&mut digest, &self.l);
        absorb(&mut digest, &self.h);
        digest.digest()
    }
}

impl fmt::Debug for Ceremony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ceremony")
            .field("profile", &self.profile)
            .field("circuit", &self.circuit)
            .field("contributions", &self.contributions)
            .finish_non_exhaustive()
    }
}
