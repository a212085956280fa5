//! A root key that is kept offline: what it signs in one sitting, and how long that lasts.

use core::time::Duration;

use minicbor::{Decode, Encode};

use crate::certificate::{Certificate, CertificateError, CertificateRequest};
use crate::exec::EpochHead;
use crate::expiry::Expiry;
use crate::key::NodeId;
use crate::network::NetworkId;
use crate::role::Role;
use crate::signer::RootSigner;
use crate::time::{Epoch, Timestamp};
use crate::verified::{Unverified, Verified};
use crate::wire::Wire;

/// Certificate requests that travel to an offline root together. They hold nothing secret.
///
/// Wire form: `[[request...]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Batch {
    #[cbor(n(0), decode_with = "decode_bounded::<CertificateRequest, _, { Batch::MAX_REQUESTS }>")]
    requests: Vec<CertificateRequest>,
}

impl Wire for Batch {
    const MAX_BYTES: usize = Self::MAX_REQUESTS * CertificateRequest::MAX_BYTES + 8;
}

/// Why a batch was not signed or cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// More requests than [`Batch::MAX_REQUESTS`] or heads than [`Presigned::MAX_HEADS`].
    #[error("{len} entries exceed the limit of {limit}")]
    TooMany {
        /// Entries given.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The request or certificate at a position does not hold.
    #[error("entry {at}: {source}")]
    Certificate {
        /// Its position, from zero.
        at: usize,
        /// Why.
        source: CertificateError,
    },
    /// Something is another node's.
    #[error("batch of another node")]
    Node,
    /// Heads are not one for each epoch, in order.
    #[error("heads are not of successive epochs")]
    Heads,
}

impl Batch {
    /// Most requests: eight roles for five years of months. It bounds what a batch can make an
    /// air-gapped machine read.
    pub const MAX_REQUESTS: usize = 512;

    /// Puts requests together.
    ///
    /// # Errors
    /// [`BatchError::TooMany`]; the caller's fault.
    pub fn new(requests: Vec<CertificateRequest>) -> Result<Self, BatchError> {
        match requests.len() {
            len if len > Self::MAX_REQUESTS => Err(BatchError::TooMany { len, limit: Self::MAX_REQUESTS }),
            _ => Ok(Self { requests }),
        }
    }

    /// What is asked for: to be shown to whoever holds the root key before signing.
    #[must_use]
    pub fn requests(&self) -> &[CertificateRequest] {
        &self.requests
    }

    /// Grants every request, or none.
    ///
    /// # Errors
    /// [`BatchError::Certificate`] names the first request that was not granted.
    pub fn sign(self, root: &dyn RootSigner, network: &NetworkId) -> Result<Presigned, BatchError> {
        let grant = |(at, request): (usize, CertificateRequest)| {
            request.grant(root, network).map_err(|source| BatchError::Certificate { at, source })
        };
        let certificates = self.requests.into_iter().enumerate().map(grant).collect::<Result<_, _>>()?;
        Ok(Presigned { certificates, heads: Vec::new() })
    }
}

/// What lets a node work without its root key: certificates for months to come and, if the epoch
/// signer stays offline as well, epoch heads.
///
/// It holds nothing secret, but tells which keys a node will have. A node that runs on it warns
/// from [`Expiry::Renew`] on and asks [`check_supply`](Self::check_supply) before it starts: whoever
/// has to go and fetch a key from a safe should not learn it from an outage.
///
/// Wire form: `[[certificate...], [head...]]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Presigned {
    #[cbor(n(0), decode_with = "decode_bounded::<Certificate, _, { Batch::MAX_REQUESTS }>")]
    certificates: Vec<Certificate>,
    #[cbor(n(1), decode_with = "decode_bounded::<EpochHead, _, { Presigned::MAX_HEADS }>")]
    heads: Vec<EpochHead>,
}

impl Wire for Presigned {
    const MAX_BYTES: usize =
        Batch::MAX_REQUESTS * Certificate::MAX_BYTES + Self::MAX_HEADS * EpochHead::MAX_BYTES + 16;
}

/// The supply for a role does not last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "presigned certificates for role {role} last {} h more, less than the {} h that are needed; \
     sign a new batch with the root key",
    .left.as_secs() / 3600,
    Expiry::CRITICAL_BEFORE.as_secs() / 3600
)]
pub struct SupplyError {
    /// The role.
    pub role: Role,
    /// How long it is covered without a gap.
    pub left: Duration,
}

impl Presigned {
    /// Most heads: 30 days of ten-minute epochs, the life of the certificate they are under.
    pub const MAX_HEADS: usize = 4320;

    /// Adds heads of successive epochs, signed offline by the epoch signer.
    ///
    /// # Errors
    /// [`BatchError`] if there are too many, or they are not one for each epoch in order.
    pub fn with_heads(mut self, heads: Vec<EpochHead>) -> Result<Self, BatchError> {
        self.heads = heads;
        self.check_heads()?;
        Ok(self)
    }

    /// The certificate of a role that is valid at `now`, the one that lasts longest.
    #[must_use]
    pub fn certificate(&self, role: Role, now: Timestamp) -> Option<&Certificate> {
        let valid = |it: &&Certificate| it.role() == role && it.not_before() <= now && now < it.not_after();
        self.certificates.iter().filter(valid).max_by_key(|it| it.not_after())
    }

    /// The head of an epoch.
    #[must_use]
    pub fn head(&self, epoch: Epoch) -> Option<&EpochHead> {
        self.heads.binary_search_by_key(&epoch, EpochHead::epoch).ok().and_then(|at| self.heads.get(at))
    }

    /// Until when a role is covered from `now` on without a gap; `now` itself if it is not.
    #[must_use]
    pub fn covered_until(&self, role: Role, now: Timestamp) -> Timestamp {
        let mut until = now;
        // Each step passes at least one certificate for good.
        while let Some(certificate) = self.certificate(role, until) {
            until = certificate.not_after();
        }
        until
    }

    /// How close the supply of a role is to its end.
    #[must_use]
    pub fn expiry(&self, role: Role, now: Timestamp) -> Expiry {
        Expiry::of(self.covered_until(role, now), now)
    }

    /// Checks that a node which needs these roles may start: more than
    /// [`Expiry::CRITICAL_BEFORE`] is left of each.
    ///
    /// # Errors
    /// [`SupplyError`] names the first role whose supply is too short.
    pub fn check_supply(&self, roles: &[Role], now: Timestamp) -> Result<(), SupplyError> {
        for &role in roles {
            if self.expiry(role, now) >= Expiry::Critical {
                let left = self.covered_until(role, now).saturating_since(now);
                return Err(SupplyError { role, left });
            }
        }
        Ok(())
    }

    fn check_heads(&self) -> Result<(), BatchError> {
        if self.heads.len() > Self::MAX_HEADS {
            return Err(BatchError::TooMany { len: self.heads.len(), limit: Self::MAX_HEADS });
        }
        let follows = |a: &EpochHead, b: &EpochHead| {
            b.epoch() == a.epoch().next() && b.epoch() != a.epoch() && b.prev() == Some(a.digest())
        };
        if self.heads.iter().zip(self.heads.iter().skip(1)).all(|(a, b)| follows(a, b)) {
            Ok(())
        } else {
            Err(BatchError::Heads)
        }
    }
}

impl Unverified<Presigned> {
    /// Checks that everything in it is the node's own, signed for this network: each certificate
    /// at the start of its validity, and that the heads are successive. A head is checked with
    /// its certificate when it is used.
    ///
    /// # Errors
    /// [`BatchError`] names the first entry that does not hold.
    pub fn check_signed(self, node: NodeId, network: &NetworkId) -> Result<Verified<Presigned>, BatchError> {
        self.check(|presigned| {
            for (at, certificate) in presigned.certificates.iter().enumerate() {
                if certificate.node() != node {
                    return Err(BatchError::Node);
                }
                Unverified::new(certificate.clone())
                    .check_issued(certificate.role(), network, certificate.not_before())
                    .map_err(|source| BatchError::Certificate { at, source })?;
            }
            if presigned.heads.iter().any(|head| head.node() != node) {
                return Err(BatchError::Node);
            }
            presigned.check_heads()
        })
    }
}

fn decode_bounded<T, C, const MAX: usize>(
    d: &mut minicbor::Decoder<'_>,
    c: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error>
where
    T: for<'b> Decode<'b, C>,
{
    let entries: Vec<T> = d.decode_with(c)?;
    if entries.len() > MAX {
        return Err(minicbor::decode::Error::message("too many entries"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::key::SigningKey;
    use crate::wire;

    const DAY: Duration = Duration::from_secs(86_400);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn day(number: u32) -> Timestamp {
        Timestamp::from_secs(86_400_000).saturating_add(DAY * number)
    }

    fn request(role: Role, from: u32, days: u32) -> CertificateRequest {
        let subject = key(u8::try_from(from).expect("small") + 10);
        CertificateRequest::new(key(1).public(), &subject, role, from.into(), day(from), DAY * days, &net())
            .expect("in the rules")
    }

    /// Epoch signers for days 0 to 90, with overlaps; transport keys with a gap at day 30.
    fn presigned() -> Presigned {
        let signer = |from| request(Role::EpochSigner, from, 30);
        let requests = vec![
            signer(29),
            signer(0),
            signer(58),
            request(Role::EpochSigner, 87, 3),
            request(Role::Transport, 0, 30),
            request(Role::Transport, 31, 30),
        ];
        let bytes = wire::to_bytes(&Batch::new(requests).expect("few"));
        let batch: Batch = wire::from_bytes(&bytes).expect("canonical");
        batch.sign(&key(1), &net()).expect("its root")
    }

    fn head(epoch: u64, prev: Option<&EpochHead>) -> EpochHead {
        let certificate = request(Role::EpochSigner, 0, 30).grant(&key(1), &net()).expect("its root");
        let root = Digest::of_bytes(&epoch.to_le_bytes());
        EpochHead::sign(&key(10), &certificate, Epoch::from_number(epoch), root, prev, &net())
            .expect("in the rules")
    }

    #[test]
    fn a_node_lives_on_it_without_its_root() {
        let bytes = wire::to_bytes(&presigned());
        let received: Presigned = wire::from_bytes(&bytes).expect("canonical");
        let node = key(1).public().node_id();
        let presigned = Unverified::new(received).check_signed(node, &net()).expect("own");
        for at in 0..90 {
            let certificate = presigned.certificate(Role::EpochSigner, day(at)).expect("covered");
            let checked =
                Unverified::new(certificate.clone()).check_issued(Role::EpochSigner, &net(), day(at));
            assert!(checked.is_ok(), "day {at}");
        }
        assert_eq!(presigned.certificate(Role::EpochSigner, day(90)), None);
        assert_eq!(presigned.certificate(Role::Author, day(1)), None);
    }

    #[test]
    fn it_warns_a_week_and_refuses_72_hours_before_its_end() {
        let presigned = presigned();
        let roles = [Role::EpochSigner];
        for (at, expiry) in [
            (0, Expiry::Fine),
            (82, Expiry::Fine),
            (83, Expiry::Renew),
            (86, Expiry::Renew),
            (87, Expiry::Critical),
            (89, Expiry::Critical),
            (90, Expiry::Expired),
        ] {
            assert_eq!(presigned.expiry(Role::EpochSigner, day(at)), expiry, "day {at}");
            let starts = presigned.check_supply(&roles, day(at)).is_ok();
            assert_eq!(starts, expiry < Expiry::Critical, "day {at}");
        }
        let left = presigned.check_supply(&[Role::EpochSigner, Role::Author], day(0));
        assert_eq!(left, Err(SupplyError { role: Role::Author, left: Duration::ZERO }));
    }

    #[test]
    fn a_gap_ends_the_supply() {
        let presigned = presigned();
        assert_eq!(presigned.covered_until(Role::Transport, day(0)), day(30));
        assert_eq!(presigned.covered_until(Role::Transport, day(31)), day(61));
        assert_eq!(presigned.covered_until(Role::EpochSigner, day(0)), day(90));
        let left = SupplyError { role: Role::Transport, left: DAY * 2 };
        assert_eq!(presigned.check_supply(&[Role::Transport], day(28)), Err(left));
    }

    #[test]
    fn the_root_grants_nothing_that_is_not_its_own() {
        let foreign = CertificateRequest::new(key(2).public(), &key(3), Role::Author, 0, day(0), DAY, &net());
        let requests = vec![request(Role::Author, 0, 1), foreign.expect("in the rules")];
        let refused = Batch::new(requests).expect("few").sign(&key(1), &net());
        assert_eq!(refused, Err(BatchError::Certificate { at: 1, source: CertificateError::OtherRoot }));
    }

    #[test]
    fn the_node_takes_nothing_that_is_not_its_own() {
        let check = |presigned: Presigned, network: &NetworkId| {
            let node = key(1).public().node_id();
            Unverified::new(presigned).check_signed(node, network).map(|_| ())
        };
        let other = NetworkId::from_name("other");
        let source = CertificateError::RootSignature;
        assert_eq!(check(presigned(), &other), Err(BatchError::Certificate { at: 0, source }));
        let node = key(2).public().node_id();
        let foreign = Unverified::new(presigned()).check_signed(node, &net()).map(|_| ());
        assert_eq!(foreign, Err(BatchError::Node));
    }

    #[test]
    fn heads_are_found_by_epoch_and_have_no_gap() {
        let start = Epoch::at(day(1)).number();
        let mut heads = vec![head(start, None)];
        for epoch in start + 1..start + 5 {
            heads.push(head(epoch, heads.last()));
        }
        let presigned = presigned().with_heads(heads.clone()).expect("successive");
        for head in &heads {
            assert_eq!(presigned.head(head.epoch()), Some(head));
        }
        assert_eq!(presigned.head(Epoch::from_number(start + 5)), None);
        for order in [vec![0, 2], vec![1, 0], vec![0, 0]] {
            let heads = order.iter().map(|at: &usize| heads[*at].clone()).collect();
            assert_eq!(presigned.clone().with_heads(heads), Err(BatchError::Heads));
        }
        let unchained = vec![heads[0].clone(), head(start + 1, None)];
        assert_eq!(presigned.with_heads(unchained), Err(BatchError::Heads));
    }

    #[test]
    fn limits_hold() {
        let many = vec![request(Role::Author, 0, 1); Batch::MAX_REQUESTS + 1];
        let limit = Batch::MAX_REQUESTS;
        assert_eq!(Batch::new(many.clone()), Err(BatchError::TooMany { len: limit + 1, limit }));
        let bytes = wire::to_bytes(&Batch { requests: many });
        assert!(wire::from_bytes::<Batch>(&bytes).is_err());
        let heads = vec![head(Epoch::at(day(1)).number(), None); Presigned::MAX_HEADS + 1];
        let presigned = Presigned { heads, ..presigned() };
        assert!(wire::from_bytes::<Presigned>(&wire::to_bytes(&presigned)).is_err());
    }
}
