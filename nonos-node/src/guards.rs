//! The relays at which this node's circuits begin, pinned for months, and the links to them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, NodeId, Timestamp};
use nonos_mesh::Contact;
use nonos_onion::{GuardError, GuardSet, PathRequest, PathSelector, Selection, Vanguards};
use zeroize::Zeroizing;

use crate::builder::StartError;
use crate::node::Shared;
use crate::{clock, domains, files};

/// Name of the record in a data directory.
const FILE: &str = "guards.bin";
const NONCE_BYTES: usize = 24;
/// Pause between looks at the links to guards.
const LOOK: Duration = Duration::from_secs(15);

/// Where a guard can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Address {
    #[n(0)]
    guard: NodeId,
    #[n(1)]
    contact: Contact,
}

/// The record, sealed under a key of the node's identity: who sees the file does not learn through whom the
/// node speaks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Record {
    #[n(0)]
    set: GuardSet,
    #[n(1)]
    vanguards: Vanguards,
    #[n(2)]
    addresses: Vec<Address>,
}

impl Wire for Record {
    const MAX_BYTES: usize = GuardSet::MAX_BYTES + Vanguards::MAX_BYTES + GuardSet::SIZE * 2048;
}

/// The node's guards and where they can be dialled.
pub(crate) struct Guards {
    set: GuardSet,
    vanguards: Vanguards,
    contacts: BTreeMap<NodeId, Contact>,
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// What the file holds.
    saved: Vec<u8>,
}

impl Guards {
    /// The guards of a data directory; none yet if it has no record of them.
    pub(crate) fn open(data_dir: &Path, me: NodeId, secret: &[u8; 32]) -> Result<Self, StartError> {
        let path = data_dir.join(FILE);
        let key = Zeroizing::new(*Digest::of(domains::GUARDS, &[secret]).as_bytes());
        let (record, saved) = match std::fs::read(&path) {
            Ok(sealed) => {
                unseal(&key, &sealed).filter(|(record, _)| record.set.client() == me).ok_or_else(|| {
                    let message =
                        "it is damaged, or of another identity. If it is moved away, new guards are drawn, \
                               each of which may be an adversary's"
                            .into();
                    StartError::Store { path: path.clone(), message }
                })?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (set, vanguards) = (GuardSet::new(me), Vanguards::default());
                (Record { set, vanguards, addresses: Vec::new() }, Vec::new())
            }
            Err(source) => return Err(StartError::Io { path, source }),
        };
        let contacts = record.addresses.into_iter().map(|it| (it.guard, it.contact)).collect();
        Ok(Self { set: record.set, vanguards: record.vanguards, contacts, path, key, saved })
    }

    /// Chooses a path that begins at a guard; what it drew stands in the file when this returns.
    pub(crate) fn path(
        &mut self,
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
    ) -> Result<Selection, GuardError> {
        let selection = self.set.path(selector, request, now, clock::random());
        self.save();
        selection
    }

    /// The same with a second hop that is pinned too: for circuits that strangers make the node build.
    pub(crate) fn path_by_vanguards(
        &mut self,
        selector: &PathSelector,
        request: &PathRequest<'_>,
        now: Timestamp,
    ) -> Result<Selection, GuardError> {
        let selection = self.vanguards.path(&mut self.set, selector, request, now, clock::random());
        self.save();
        selection
    }

    pub(crate) fn answered(&mut self, guard: &NodeId, now: Timestamp) {
        self.set.answered(guard, now);
        self.save();
    }

    pub(crate) fn failed(&mut self, guard: &NodeId, blamed: Option<usize>, now: Timestamp) {
        self.set.failed(guard, blamed, now, clock::random());
        self.save();
    }

    /// The guards, best first.
    pub(crate) fn all(&self) -> Vec<NodeId> {
        self.set.guards().collect()
    }

    /// Notes where neighbours can be dialled, and says which guards to dial.
    fn look(&mut self, neighbours: &BTreeMap<NodeId, Option<Contact>>) -> Vec<Contact> {
        let guards = self.all();
        self.contacts.retain(|node, _| guards.contains(node));
        let mut lost = Vec::new();
        for guard in guards {
            match (neighbours.get(&guard), self.contacts.get(&guard)) {
                (Some(Some(contact)), known) if known != Some(contact) => {
                    self.contacts.insert(guard, contact.clone());
                }
                (None, Some(contact)) => lost.push(contact.clone()),
                _ => {}
            }
        }
        self.save();
        lost
    }

    /// Writes the record if it has changed. A node that cannot write goes on with the guards it has: it
    /// draws others only after a restart.
    fn save(&mut self) {
        let address =
            |(guard, contact): (&NodeId, &Contact)| Address { guard: *guard, contact: contact.clone() };
        let (set, vanguards) = (self.set.clone(), self.vanguards.clone());
        let record = Record { set, vanguards, addresses: self.contacts.iter().map(address).collect() };
        let plain = wire::to_bytes(&record);
        if plain == self.saved {
            return;
        }
        match seal(&self.key, &plain).map(|sealed| files::replace_secret(&self.path, &sealed)) {
            Some(Ok(())) => self.saved = plain,
            Some(Err(error)) => tracing::error!(%error, "guards not saved: a restart would draw others"),
            // The record is far below the cipher's limit.
            None => {}
        }
    }
}

impl std::fmt::Debug for Guards {
    /// Without the guards: a log is where nobody should find them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guards").field("set", &self.set).finish_non_exhaustive()
    }
}

fn seal(key: &[u8; 32], plain: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; NONCE_BYTES] = clock::random();
    let payload = Payload { msg: plain, aad: FILE.as_bytes() };
    let sealed = XChaCha20Poly1305::new(key.into()).encrypt(&nonce.into(), payload).ok()?;
    Some([&nonce[..], &sealed].concat())
}

fn unseal(key: &[u8; 32], sealed: &[u8]) -> Option<(Record, Vec<u8>)> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload { msg: sealed, aad: FILE.as_bytes() };
    let plain = XChaCha20Poly1305::new(key.into()).decrypt(&(*nonce).into(), payload).ok()?;
    Some((wire::from_bytes(&plain).ok()?, plain))
}

/// Keeps links to the guards: only over a link can a circuit begin.
pub(crate) async fn keep_links(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(peers) = shared.mesh.peers().await else { return };
        let linked = peers.into_iter().filter(|peer| peer.link.is_some());
        let neighbours = linked.map(|peer| (peer.node, peer.contact)).collect();
        let lost = tokio::task::block_in_place(|| shared.guards().look(&neighbours));
        for contact in lost {
            if shared.mesh.dial(contact).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nonos_mesh::TransportId;
    use nonos_onion::{BandwidthClass, FamilyTag, HopClass, RelayDescriptor, SubnetTag};

    use super::*;

    const SECRET: [u8; 32] = [5; 32];
    const ME: NodeId = NodeId::from_bytes([0; 32]);

    fn relay(number: u8) -> RelayDescriptor {
        RelayDescriptor {
            relay: NodeId::from_bytes([number; 32]),
            onion_key: [number; 32],
            epoch: nonos_identity::Epoch::at(clock::now()),
            family: FamilyTag::from_bytes([number; 16]),
            subnet: SubnetTag::from_bytes([number; 16]),
            bandwidth: BandwidthClass::new(3),
            expiry: clock::now().saturating_add(Duration::from_secs(3600)),
        }
    }

    fn contact(number: u8) -> Contact {
        let transport = TransportId::new([number; 38]).unwrap();
        Contact { transport, addresses: vec![format!("/ip4/10.0.0.{number}/tcp/1")] }
    }

    fn draw(guards: &mut Guards) -> Selection {
        let candidates: Vec<_> = (1..30).map(relay).collect();
        let request = PathRequest {
            candidates: &candidates,
            destination: &relay(40),
            exclude: &[],
            hops: HopClass::Three,
            reachable: None,
        };
        guards.path(&PathSelector::default(), &request, clock::now()).unwrap()
    }

    #[test]
    fn a_restart_keeps_guards_and_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut guards = Guards::open(dir.path(), ME, &SECRET).unwrap();
        let first = draw(&mut guards).relays[0].relay;
        let neighbours = guards.all().into_iter().map(|guard| (guard, Some(contact(guard.as_bytes()[0]))));
        assert!(guards.look(&neighbours.collect()).is_empty());

        let mut again = Guards::open(dir.path(), ME, &SECRET).unwrap();
        assert_eq!(again.all(), guards.all());
        assert_eq!(draw(&mut again).relays[0].relay, first);
        let lost = again.look(&BTreeMap::new());
        let all: Vec<_> = again.all().iter().map(|guard| contact(guard.as_bytes()[0])).collect();
        assert_eq!(lost, all);
    }

    #[test]
    fn the_file_tells_nobody_and_takes_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut guards = Guards::open(dir.path(), ME, &SECRET).unwrap();
        draw(&mut guards);
        let path = dir.path().join(FILE);
        let sealed = std::fs::read(&path).unwrap();
        for guard in guards.all() {
            assert!(!sealed.windows(32).any(|window| window == guard.as_bytes()));
        }
        let refused =
            |secret, me| matches!(Guards::open(dir.path(), me, secret), Err(StartError::Store { .. }));
        assert!(refused(&[6; 32], ME));
        assert!(refused(&SECRET, NodeId::from_bytes([1; 32])));
        for at in [0, NONCE_BYTES, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            std::fs::write(&path, altered).unwrap();
            assert!(refused(&SECRET, ME), "byte {at}");
        }
    }
}
