//! The machine of one mesh node.

use core::time::Duration;

use nonos_identity::NodeId;

use crate::config::{Config, ConfigError};
use crate::contact::Contact;
use crate::digest::StateDigest;
use crate::io::{Input, LinkId, Now, Output, Peer, Stats};
use crate::message::Message;
use crate::ticket::Ticket;
use nonos_identity::wire::Wire;

/// One node of the mesh: values in, values out.
#[derive(Debug)]
pub struct Mesh {}

impl Mesh {
    /// Longest frame body on a link, in bytes; a driver closes a link that declares more.
    pub const MAX_FRAME_BYTES: usize = Message::MAX_BYTES;

    /// A node without links.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that cannot work.
    pub fn new(config: Config, _now: Now, _seed: [u8; 32]) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {})
    }

    /// Takes one input. Safe to call before the outputs of earlier inputs are drained.
    pub fn handle(&mut self, _now: Now, _input: Input) {}

    /// The next thing to do, in order.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// When to call [`Self::handle`] with [`Input::Tick`], on the clock of [`Now::mono`].
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Links that are up.
    #[must_use]
    pub fn links(&self) -> Vec<(LinkId, NodeId)> {
        Vec::new()
    }

    /// Every node known by link or by beacon, by id.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    /// What this node holds, one digest per collection.
    #[must_use]
    pub fn digests(&mut self) -> Vec<StateDigest> {
        Vec::new()
    }

    /// Contacts known, for a contact file.
    #[must_use]
    pub fn contacts(&self) -> Vec<Contact> {
        Vec::new()
    }

    /// Where this node can be dialled.
    #[must_use]
    pub fn contact(&self) -> Contact {
        Contact { transport: crate::TransportId::default(), addresses: Vec::new() }
    }

    /// An invitation to this node, `None` while it has no address.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        None
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
