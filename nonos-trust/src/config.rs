use core::time::Duration;

use crate::fixed::Fixed;

const DAY: Duration = Duration::from_secs(86_400);

/// The weights and limits of a [`TrustEngine`](crate::TrustEngine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Score of a peer nobody knows.
    pub prior: Fixed,
    /// How much evidence the prior is worth.
    pub prior_mass: Fixed,
    /// Half-life of [`Memory::Uptime`](crate::Memory::Uptime).
    pub uptime_half_life: Duration,
    /// Half-life of [`Memory::Work`](crate::Memory::Work).
    pub work_half_life: Duration,
    /// Half-life of [`Memory::Offence`](crate::Memory::Offence).
    pub offence_half_life: Duration,
    /// Most mass one peer can earn, and most it can lose, in one epoch; stops a burst of cheap good
    /// deeds from buying standing. The two are counted apart: good deeds do not use up the room
    /// for bad ones.
    pub max_epoch_mass: Fixed,
    /// Most good and most bad mass that counts at a time; stops a peer that behaved for a year from
    /// misbehaving for a month unnoticed.
    pub max_mass: Fixed,
    /// Part of an endorser's own mass that its referrals share out, per hop; below one.
    pub referral_share: Fixed,
    /// Hops a referral travels; 0 leaves hearsay without weight.
    pub max_referral_hops: u32,
    /// Most mass a subject gets through one direct peer, over all paths.
    pub max_referral_mass: Fixed,
    /// What is left of hearsay that came, nine tenths or more of it, through one direct peer: all
    /// the identities an attacker invents are known through the attacker alone.
    pub lone_referral_share: Fixed,
    /// Direct peers whose referrals count, the heaviest first; bounds the work of a refresh.
    pub max_endorsers: usize,
    /// Cap of the score in [`State::Probation`](crate::State::Probation).
    pub probation_cap: Fixed,
    /// Peers with evidence; the least known is dropped first. Bounds memory against Sybils.
    pub max_peers: usize,
    /// Issuers of attestations; bounds memory against Sybils.
    pub max_issuers: usize,
    /// Attestations kept of one issuer, the latest epochs first; bounds memory against a chatterer.
    pub max_attestations_per_issuer: usize,
    /// Epochs an attestation counts.
    pub attestation_epochs: u64,
    /// Faults kept; each names one culprit.
    pub max_faults: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prior: Fixed::ratio(3, 10),
            prior_mass: Fixed::whole(4),
            uptime_half_life: DAY,
            work_half_life: 7 * DAY,
            offence_half_life: 90 * DAY,
            max_epoch_mass: Fixed::whole(64),
            max_mass: Fixed::whole(256),
            referral_share: Fixed::ratio(2, 5),
            max_referral_hops: 3,
            max_referral_mass: Fixed::ratio(3, 2),
            lone_referral_share: Fixed::ratio(1, 4),
            max_endorsers: 32,
            probation_cap: Fixed::ratio(35, 100),
            max_peers: 4_096,
            max_issuers: 1_024,
            max_attestations_per_issuer: 128,
            attestation_epochs: 32,
            max_faults: 1_024,
        }
    }
}

/// A configuration that makes no sense; the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The prior is above one or weighs nothing.
    #[error("prior must be at most one and weigh something")]
    Prior,
    /// A half-life is shorter than a second.
    #[error("half-lives must be at least a second")]
    HalfLife,
    /// Referrals would multiply mass instead of dividing it.
    #[error("referral shares must be below one")]
    ReferralShare,
    /// A limit is zero.
    #[error("limits must not be zero")]
    Limit,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.prior > Fixed::ONE || self.prior_mass == Fixed::ZERO {
            return Err(ConfigError::Prior);
        }
        let half_lives = [self.uptime_half_life, self.work_half_life, self.offence_half_life];
        if half_lives.iter().any(|half_life| half_life.as_secs() == 0) {
            return Err(ConfigError::HalfLife);
        }
        if self.referral_share >= Fixed::ONE || self.lone_referral_share > Fixed::ONE {
            return Err(ConfigError::ReferralShare);
        }
        let limits = [self.max_peers, self.max_issuers, self.max_attestations_per_issuer, self.max_faults];
        if limits.contains(&0) { Err(ConfigError::Limit) } else { Ok(()) }
    }
}
