use core::time::Duration;

use nonos_identity::{Certificate, NetworkId, SigningKey};

use crate::beacon::Beacon;
use crate::contact::TransportId;

/// How a mesh node behaves. Checked once, in [`Mesh::new`](crate::Mesh::new).
#[derive(Debug)]
pub struct Config {
    /// The mesh it belongs to.
    pub network: NetworkId,
    /// Signs hellos and beacons.
    pub signer: SigningKey,
    /// The root's certificate for `signer`.
    pub certificate: Certificate,
    /// This node's transport id; the libp2p driver sets it from its own key.
    pub transport: TransportId,
    /// Where this node can be dialled; the libp2p driver adds its listeners.
    pub addresses: Vec<String>,
    /// Links and contacts.
    pub links: LinkConfig,
    /// Spreading of items.
    pub gossip: GossipConfig,
    /// Anti-entropy.
    pub sync: SyncConfig,
    /// Beacons.
    pub beacon: TrickleConfig,
}

/// Limits of links, of contacts and of what one neighbour may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Most links at once; stops connection floods.
    pub max_links: usize,
    /// Contacts are dialled below this number of links.
    pub target_links: usize,
    /// Time for the hello; stops idle half-open links.
    pub hello_timeout: Duration,
    /// Between two pings, which measure the round trip.
    pub ping_interval: Duration,
    /// Without a frame for this long a link is closed.
    pub silence_timeout: Duration,
    /// First wait before a contact is dialled again; doubles.
    pub redial_min: Duration,
    /// Longest wait before a contact is dialled again.
    pub redial_max: Duration,
    /// Most contacts remembered; stops contact floods.
    pub max_contacts: usize,
    /// Between two exchanges of contacts with a random neighbour.
    pub exchange_interval: Duration,
    /// Bytes handed to the driver before it reports them sent; keeps the choice of what goes
    /// first in the core.
    pub window_bytes: usize,
    /// Bytes queued per lane and link; stops memory growth on slow links.
    pub queue_bytes: usize,
    /// New items per second that a neighbour may push unasked; stops verifier floods.
    pub items_per_sec: u32,
    /// Items a neighbour may push at once on top.
    pub items_burst: u32,
    /// Penalty points at which a link is closed; a rejected item costs 25, a malformed frame 50,
    /// and one point is forgiven per second.
    pub penalty_limit: u32,
    /// How long a node stays banned.
    pub ban_time: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            max_links: 64,
            target_links: 16,
            hello_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(15),
            silence_timeout: Duration::from_secs(50),
            redial_min: Duration::from_secs(1),
            redial_max: Duration::from_secs(300),
            max_contacts: 1024,
            exchange_interval: Duration::from_secs(15),
            window_bytes: 64 * 1024,
            queue_bytes: 256 * 1024,
            items_per_sec: 50,
            items_burst: 256,
            penalty_limit: 100,
            ban_time: Duration::from_secs(600),
        }
    }
}

/// The lazy tree: full items to few links, announcements to some, pulls for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipConfig {
    /// Links that get every new item at once: 4 on the clear network, 5 over onion circuits.
    pub eager: usize,
    /// Further random links that get the announcement of every new item.
    pub lazy: usize,
    /// Announcements are collected for this long.
    pub announce_delay: Duration,
    /// Shortest wait for an announced item before it is asked for.
    pub pull_min: Duration,
    /// Most items asked for or waited for at once; stops announcement floods.
    pub max_pulls: usize,
    /// Most links remembered as holders of one announced item.
    pub max_holders: usize,
    /// Ids of items seen; bounds the memory of duplicates.
    pub seen_capacity: usize,
    /// How long a rejected or ignored id is not looked at again.
    pub negative_ttl: Duration,
    /// Bytes of recent items kept ready for pulls.
    pub cache_bytes: usize,
    /// Bytes of items in check, over all links; stops memory floods.
    pub unverified_bytes: usize,
    /// Bytes of items in check that one link may have; stops one neighbour from taking it all.
    pub unverified_bytes_per_link: usize,
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self {
            eager: 4,
            lazy: 6,
            announce_delay: Duration::from_millis(5),
            pull_min: Duration::from_millis(20),
            max_pulls: 4096,
            max_holders: 8,
            seen_capacity: 65_536,
            negative_ttl: Duration::from_secs(600),
            cache_bytes: 8 * 1024 * 1024,
            unverified_bytes: 8 * 1024 * 1024,
            unverified_bytes_per_link: 1024 * 1024,
        }
    }
}

/// Anti-entropy with one random neighbour at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// Mean time between two comparisons; each wait is drawn from half to one and a half of it.
    pub interval: Duration,
    /// Most differing buckets listed in one round; bounds the answer to one question.
    pub max_buckets: usize,
    /// Most ids in one frame.
    pub max_ids: usize,
    /// Most items kept in the index of one collection; stops disk and memory floods.
    pub max_items: usize,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), max_buckets: 64, max_ids: 1024, max_items: 1_000_000 }
    }
}

/// The beacon timer (RFC 6206, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrickleConfig {
    /// Shortest interval, `Imin`.
    pub interval_min: Duration,
    /// Longest interval, `Imax` as a time.
    pub interval_max: Duration,
    /// Beacons heard in an interval that silence an own refresh, `k`.
    pub redundancy: u32,
    /// Validity of an own beacon, at most [`Beacon::MAX_LIFETIME`].
    pub lifetime: Duration,
    /// Most nodes remembered by beacon; stops floods of invented nodes.
    pub max_peers: usize,
}

impl Default for TrickleConfig {
    fn default() -> Self {
        Self {
            interval_min: Duration::from_secs(2),
            interval_max: Duration::from_secs(256),
            redundancy: 3,
            lifetime: Beacon::MAX_LIFETIME,
            max_peers: 4096,
        }
    }
}

/// A configuration that cannot work. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field is outside its range.
    #[error("{field} must be {rule}")]
    Field {
        /// Its path.
        field: &'static str,
        /// Its rule.
        rule: &'static str,
    },
    /// The certificate is not for the signing key.
    #[error("certificate is not for the signing key")]
    Signer,
}

impl Config {
    /// The defaults around an identity; the transport id is still to be set.
    #[must_use]
    pub fn new(network: NetworkId, signer: SigningKey, certificate: Certificate) -> Self {
        Self {
            network,
            signer,
            certificate,
            transport: TransportId::default(),
            addresses: Vec::new(),
            links: LinkConfig::default(),
            gossip: GossipConfig::default(),
            sync: SyncConfig::default(),
            beacon: TrickleConfig::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.certificate.subject() != self.signer.public() {
            return Err(ConfigError::Signer);
        }
        let (links, gossip) = (&self.links, &self.gossip);
        let (sync, beacon) = (&self.sync, &self.beacon);
        let second = Duration::from_millis(1);
        let rules = [
            (self.transport.is_valid(), "transport", "1 to 64 bytes"),
            (links.max_links > 0, "links.max_links", "positive"),
            (links.window_bytes > 0, "links.window_bytes", "positive"),
            (links.ping_interval >= second, "links.ping_interval", "at least 1 ms"),
            (links.exchange_interval >= second, "links.exchange_interval", "at least 1 ms"),
            (links.redial_min >= second, "links.redial_min", "at least 1 ms"),
            (links.penalty_limit > 0, "links.penalty_limit", "positive"),
            (gossip.eager > 0, "gossip.eager", "positive"),
            (gossip.max_holders > 0, "gossip.max_holders", "positive"),
            (gossip.seen_capacity > 0, "gossip.seen_capacity", "positive"),
            (sync.interval >= second, "sync.interval", "at least 1 ms"),
            ((1..=1024).contains(&sync.max_ids), "sync.max_ids", "1 to 1024"),
            ((1..=256).contains(&sync.max_buckets), "sync.max_buckets", "1 to 256"),
            (beacon.interval_min >= second, "beacon.interval_min", "at least 1 ms"),
            (beacon.interval_max >= beacon.interval_min, "beacon.interval_max", "at least interval_min"),
            (beacon.lifetime <= Beacon::MAX_LIFETIME, "beacon.lifetime", "at most 1 h"),
        ];
        match rules.iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(ConfigError::Field { field, rule }),
            None => Ok(()),
        }
    }
}
