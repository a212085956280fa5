use core::fmt;

use nonos_identity::wire;
use nonos_identity::{
    AdmitError, Epoch, NetworkId, OnionAddress, OnionNetwork, PublicKey, SigningKey, StaticSecret, Timestamp,
};

use crate::service::blinding::{IdentitySecret, PeriodKeys};
use crate::service::clients::{Access, Layers, MAX_CLIENTS};
use crate::service::content::ServiceDescriptor;
use crate::service::directory::{DirectoryIndex, MAX_COPIES, REPLICAS, SharedRandom};
use crate::service::layer::Randomness;
use crate::service::period::TimePeriod;
use crate::service::record::{Header, RecordError, SignedDescriptor};

/// Who offers an onion service.
pub struct Service {
    network: NetworkId,
    identity: IdentitySecret,
}

/// What makes one descriptor of a service differ from the next.
#[derive(Clone, Copy, Debug)]
pub struct Issue<'a> {
    /// The time period; see [`TimePeriod::published_at`].
    pub period: TimePeriod,
    /// Counts up within the period, over restarts too. It starts anew in each: a number that went on would
    /// link the periods.
    pub revision: u64,
    /// The first epoch in which it no longer holds, at most [`SignedDescriptor::MAX_LIFETIME_EPOCHS`] away
    /// from the one in which it is published.
    pub expiry: Epoch,
    /// Who can read it.
    pub access: Access<'a>,
}

/// Why a service makes no descriptor. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// More than [`MAX_CLIENTS`].
    #[error("{0} authorised clients exceed the limit of {MAX_CLIENTS}")]
    Clients(usize),
    /// A client's key has a small order: everybody could read its entry.
    #[error("key of an authorised client has a small order")]
    ClientKey,
}

impl Service {
    /// The service with this identity key.
    ///
    /// # Errors
    /// [`AdmitError`] if no client would admit the key.
    pub fn new(network: NetworkId, key: &SigningKey) -> Result<Self, AdmitError> {
        PublicKey::admit(key.public().as_bytes())?;
        Ok(Self { network, identity: IdentitySecret::new(key) })
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> OnionAddress {
        OnionAddress::new(OnionNetwork::Mesh, self.identity.public())
    }

    /// Makes the bytes to publish at each of [`Self::indices`]. `seed` is fresh from the caller's generator.
    ///
    /// # Errors
    /// [`IssueError`] if the authorised clients are not accepted.
    pub fn descriptor(
        &self,
        content: &ServiceDescriptor,
        issue: &Issue<'_>,
        seed: &[u8; 32],
    ) -> Result<Vec<u8>, IssueError> {
        let Issue { period, revision, expiry, access } = *issue;
        let clients = access.clients();
        if clients.len() > MAX_CLIENTS {
            return Err(IssueError::Clients(clients.len()));
        }
        let keys = PeriodKeys::of(&self.network, &self.identity.public(), period);
        let content = wire::to_bytes(content);
        let mut header = Header::new(period, keys.blinded, revision, expiry, [0; 32]);
        let hedge: [&[u8]; 5] = [
            self.identity.nonce_prefix(),
            &wire::to_bytes(&header),
            &content,
            &[u8::from(matches!(access, Access::Public))],
            clients.as_flattened(),
        ];
        let random = Randomness::new(seed, &hedge);
        header.salt = *random.draw(b"salt", 0);
        let outer = Layers::new(&keys.subcredential, &header)
            .seal(&content, access, &random)
            .map_err(|_| IssueError::ClientKey)?;
        let secret = self.identity.blinded(&self.network, period);
        Ok(wire::to_bytes(&SignedDescriptor::sign(header, outer, &secret, &self.network)))
    }

    /// Where to publish in a period with that random value.
    #[must_use]
    pub fn indices(&self, period: TimePeriod, random: &SharedRandom) -> Vec<DirectoryIndex> {
        indices(&self.network, &self.identity.public(), period, random)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// The address is not one of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address belongs to another onion network")]
pub struct WrongNetwork;

/// Who looks for one onion service.
pub struct Client {
    network: NetworkId,
    identity: PublicKey,
    key: Option<StaticSecret>,
}

/// A descriptor that was checked and decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The introduction points.
    pub descriptor: ServiceDescriptor,
    /// The subcredential for introductions, and the rest of the period's keys.
    pub keys: PeriodKeys,
    /// Its revision. The caller keeps the highest of each period, for the next fetch.
    pub revision: u64,
    /// The first epoch in which it no longer holds.
    pub expiry: Epoch,
}

/// Why a client reads no introduction points.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// No directory gave any record.
    #[error("no directory has a descriptor")]
    NotFound,
    /// The record does not hold.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is of another service or period; the directory's fault.
    #[error("descriptor of another service or period")]
    Foreign,
    /// The directory serves an older revision than this client has seen.
    #[error("directory serves revision {served}, but {seen} was seen")]
    Rollback {
        /// The highest revision seen in the period.
        seen: u64,
        /// That of the record.
        served: u64,
    },
    /// The service signed a record whose outer layer does not open; its fault.
    #[error("descriptor does not open")]
    Outer,
    /// The introduction points are for clients of which this is none, or no longer.
    #[error("client is not authorised")]
    NotAuthorised,
    /// What the service encrypted is no descriptor; its fault.
    #[error("content of the descriptor is malformed")]
    Content,
}

impl Client {
    /// For a service of the mesh; `key` is the secret by which the service authorised this client, if it did.
    ///
    /// # Errors
    /// [`WrongNetwork`] if the address is not one of the mesh.
    pub fn new(
        network: NetworkId,
        address: &OnionAddress,
        key: Option<StaticSecret>,
    ) -> Result<Self, WrongNetwork> {
        if address.network() != OnionNetwork::Mesh {
            return Err(WrongNetwork);
        }
        Ok(Self { network, identity: address.key(), key })
    }

    /// Where to fetch in a period with that random value.
    #[must_use]
    pub fn indices(&self, period: TimePeriod, random: &SharedRandom) -> Vec<DirectoryIndex> {
        indices(&self.network, &self.identity, period, random)
    }

    /// Checks and decrypts a record that was fetched for `period`. `last_revision` is the highest that was
    /// seen in that period.
    ///
    /// # Errors
    /// [`DescriptorError`] names the first check that failed.
    pub fn open(
        &self,
        period: TimePeriod,
        bytes: &[u8],
        now: Timestamp,
        last_revision: Option<u64>,
    ) -> Result<Opened, DescriptorError> {
        let keys = PeriodKeys::of(&self.network, &self.identity, period);
        let record = SignedDescriptor::parse(bytes).map_err(RecordError::from)?;
        let record = SignedDescriptor::check(record, &self.network, now)?;
        if (record.blinded(), record.period()) != (keys.blinded, period) {
            return Err(DescriptorError::Foreign);
        }
        let (revision, expiry) = (record.revision(), record.expiry());
        if let Some(seen) = last_revision.filter(|seen| *seen > revision) {
            return Err(DescriptorError::Rollback { seen, served: revision });
        }
        let layers = Layers::new(&keys.subcredential, &record.header);
        let outer = layers.open_outer(&record.outer).ok_or(DescriptorError::Outer)?;
        let content = outer.open_inner(self.key.as_ref()).ok_or(DescriptorError::NotAuthorised)?;
        let descriptor = wire::from_bytes(&content).map_err(|_| DescriptorError::Content)?;
        Ok(Opened { descriptor, keys, revision, expiry })
    }

    /// The newest of several directories' records that opens; those after [`MAX_COPIES`] are not looked at. One
    /// honest directory among them is enough.
    ///
    /// # Errors
    /// [`DescriptorError::NotFound`] if there are none, the first rollback if there was one, otherwise why the
    /// last record did not open.
    pub fn open_newest(
        &self,
        period: TimePeriod,
        copies: &[Vec<u8>],
        now: Timestamp,
        last_revision: Option<u64>,
    ) -> Result<Opened, DescriptorError> {
        let newer = |best: Result<Opened, _>, copy: &Vec<u8>| match (
            best,
            self.open(period, copy, now, last_revision),
        ) {
            (Ok(best), Ok(opened)) if opened.revision > best.revision => Ok(opened),
            (Ok(best), _) => Ok(best),
            (rollback @ Err(DescriptorError::Rollback { .. }), Err(_)) => rollback,
            (Err(_), outcome) => outcome,
        };
        copies.iter().take(MAX_COPIES).fold(Err(DescriptorError::NotFound), newer)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("authorised", &self.key.is_some()).finish_non_exhaustive()
    }
}

fn indices(
    network: &NetworkId,
    identity: &PublicKey,
    period: TimePeriod,
    random: &SharedRandom,
) -> Vec<DirectoryIndex> {
    let keys = PeriodKeys::of(network, identity, period);
    let index = |replica| DirectoryIndex::of(network, &keys.blinded, replica, period, random);
    (0..REPLICAS).map(index).collect()
}
