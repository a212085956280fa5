//! Whom to dial: contacts from the application and from neighbours, with growing waits.

use core::time::Duration;
use std::collections::BTreeMap;

use super::link::Lane;
use super::{Mesh, Timer};
use crate::config::LinkConfig;
use crate::contact::{Contact, TransportId};
use crate::io::{Event, LinkId, Now, Output};
use crate::message::Message;

/// Contacts dialled at once; a list of invented addresses must not make us a flood.
const MAX_DIALS: usize = 8;
/// Failures after which a contact that a neighbour told us of is dropped.
const MAX_FAILURES: u32 = 5;

#[derive(Debug)]
struct Known {
    contact: Contact,
    /// Named by the application: never dropped for failures.
    pinned: bool,
    dialling: bool,
    failures: u32,
    next_dial: Duration,
}

/// Who named a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Application,
    /// The node that answers there, over its own link.
    Itself,
    Neighbour,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    known: BTreeMap<TransportId, Known>,
}

impl Book {
    pub(super) fn all(&self) -> impl Iterator<Item = &Contact> {
        self.known.values().map(|k| &k.contact)
    }

    /// Where a transport can be dialled, if anybody said.
    pub(super) fn find(&self, transport: &TransportId) -> Option<&Contact> {
        self.known.get(transport).map(|known| &known.contact).filter(|contact| !contact.addresses.is_empty())
    }

    pub(super) fn reached(&mut self, transport: &TransportId) {
        if let Some(known) = self.known.get_mut(transport) {
            known.dialling = false;
            known.failures = 0;
        }
    }

    /// The link to a contact is gone: try again after the shortest wait.
    pub(super) fn lost(&mut self, now: Duration, config: &LinkConfig, transport: &TransportId) {
        if let Some(known) = self.known.get_mut(transport) {
            known.dialling = false;
            let wait = config.redial_min * (1 << known.failures.min(16));
            known.next_dial = now + wait.min(config.redial_max);
        }
    }

    /// The hello was refused: waits grow as after failed dials.
    pub(super) fn refused(&mut self, transport: &TransportId) {
        if let Some(known) = self.known.get_mut(transport) {
            known.failures = known.failures.saturating_add(3);
        }
    }
}

impl Mesh {
    /// Remembers a contact; says whether it is new or has new addresses.
    pub(super) fn remember(&mut self, now: Now, contact: Contact, source: Source) -> bool {
        let pinned = source == Source::Application;
        if contact.check().is_err() || contact.transport == self.config.transport {
            return false;
        }
        if let Some(known) = self.book.known.get_mut(&contact.transport) {
            known.pinned |= pinned;
            let changed = known.contact.addresses != contact.addresses && !contact.addresses.is_empty();
            // No third party can overwrite what the application said.
            if changed && (source != Source::Neighbour || !known.pinned) {
                known.contact = contact;
            }
            return changed;
        }
        if self.book.known.len() >= self.config.links.max_contacts {
            let victim = self.book.known.iter().filter(|(_, k)| !k.pinned).max_by_key(|(_, k)| k.failures);
            let victim = victim.filter(|(_, k)| pinned || k.failures > 0).map(|(id, _)| id.clone());
            let Some(victim) = victim else { return false };
            self.book.known.remove(&victim);
        }
        let transport = contact.transport.clone();
        let known = Known { contact, pinned, dialling: false, failures: 0, next_dial: now.mono };
        self.book.known.insert(transport, known);
        true
    }

    pub(super) fn dial_contact(&mut self, now: Now, contact: Contact) {
        let transport = contact.transport.clone();
        self.remember(now, contact, Source::Application);
        let linked = self.is_linked(&transport);
        if let Some(known) = self.book.known.get_mut(&transport)
            && !linked
            && !known.dialling
        {
            known.dialling = true;
            let contact = known.contact.clone();
            self.outputs.push_back(Output::Dial(contact));
        }
    }

    fn is_linked(&self, transport: &TransportId) -> bool {
        self.links.values().any(|l| !l.closing && l.remote == *transport)
    }

    pub(super) fn dial_failed(&mut self, now: Now, transport: &TransportId) {
        let config = &self.config.links;
        let Some(known) = self.book.known.get_mut(transport) else { return };
        known.dialling = false;
        known.failures = known.failures.saturating_add(1);
        let wait = (config.redial_min * (1 << known.failures.min(16))).min(config.redial_max);
        if known.failures >= MAX_FAILURES && !known.pinned {
            self.book.known.remove(transport);
        } else {
            let wait = self.spread(wait);
            if let Some(known) = self.book.known.get_mut(transport) {
                known.next_dial = now.mono + wait;
            }
        }
    }

    /// Dials contacts while links are missing.
    pub(super) fn dial_more(&mut self, now: Now) {
        let dialling = self.book.known.values().filter(|k| k.dialling).count();
        let links = self.links.values().filter(|l| !l.closing).count();
        let lacking = self.config.links.target_links.saturating_sub(links + dialling);
        let count = lacking.min(MAX_DIALS.saturating_sub(dialling));
        if count == 0 {
            return;
        }
        let mut due: Vec<Contact> = self
            .book
            .known
            .values()
            .filter(|k| !k.dialling && k.next_dial <= now.mono && !k.contact.addresses.is_empty())
            .filter(|k| !self.is_linked(&k.contact.transport))
            .map(|k| k.contact.clone())
            .collect();
        for _ in 0..count.min(due.len()) {
            let contact = due.swap_remove(self.below(due.len()));
            if let Some(known) = self.book.known.get_mut(&contact.transport) {
                known.dialling = true;
            }
            self.outputs.push_back(Output::Dial(contact));
        }
    }

    // Exchange.

    pub(super) fn set_addresses(&mut self, addresses: Vec<String>) {
        let contact = Contact { transport: self.config.transport.clone(), addresses };
        if contact.check().is_ok() && contact.addresses != self.config.addresses {
            self.config.addresses = contact.addresses;
            self.up().into_iter().for_each(|link| self.introduce(link));
        }
    }

    /// Tells a neighbour where we can be dialled, then whom else we know.
    pub(super) fn introduce(&mut self, link: LinkId) {
        let remote = self.links.get(&link).map(|l| l.remote.clone());
        let mut others: Vec<Contact> = self
            .book
            .known
            .values()
            .filter(|k| k.failures == 0 && Some(&k.contact.transport) != remote.as_ref())
            .map(|k| k.contact.clone())
            .collect();
        let mut contacts = vec![self.contact()];
        while contacts.len() < Message::MAX_CONTACTS && !others.is_empty() {
            contacts.push(others.swap_remove(self.below(others.len())));
        }
        self.send(link, Lane::Control, &Message::Contacts(contacts));
    }

    pub(super) fn exchange_due(&mut self, now: Now) {
        let up = self.up();
        for link in self.choose(up, 1) {
            self.introduce(link);
        }
        let wait = self.spread(self.config.links.exchange_interval);
        self.set(now.mono + wait, Timer::Exchange);
    }

    pub(super) fn contacts_heard(&mut self, now: Now, id: LinkId, contacts: Vec<Contact>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let remote = link.remote.clone();
        for contact in contacts {
            let source = if contact.transport == remote { Source::Itself } else { Source::Neighbour };
            if contact.addresses.is_empty() || !self.remember(now, contact.clone(), source) {
                continue;
            }
            if source == Source::Itself {
                self.pass_on(id, &contact);
            }
            self.event(Event::ContactLearned(contact));
        }
        self.dial_more(now);
    }

    /// A neighbour said where it can be dialled: the others hear it once, so that a small mesh
    /// grows together without waiting for the exchange.
    fn pass_on(&mut self, from: LinkId, contact: &Contact) {
        let Some(link) = self.links.get_mut(&from) else { return };
        if core::mem::replace(&mut link.introduced, true) {
            return;
        }
        let others: Vec<_> = self.up().into_iter().filter(|id| *id != from).collect();
        for link in self.choose(others, Message::MAX_CONTACTS) {
            self.send(link, Lane::Control, &Message::Contacts(vec![contact.clone()]));
        }
    }
}

#[cfg(test)]
mod tests {
    use nonos_identity::{NetworkId, Timestamp};

    use super::*;

    #[test]
    fn only_a_node_itself_moves_a_contact_of_the_application() {
        let now = Now { wall: Timestamp::from_secs(1_800_000_000), mono: Duration::ZERO };
        let config = crate::testing::config(&NetworkId::from_name("contacts"), 1, now.wall);
        let mut mesh = Mesh::new(config, now, [0; 32]).unwrap();
        let transport = TransportId::new([7]).unwrap();
        let at = |port: u16| Contact {
            transport: transport.clone(),
            addresses: vec![format!("/ip4/127.0.0.1/tcp/{port}")],
        };
        let known = |mesh: &Mesh| mesh.book.find(&transport).cloned();
        assert_eq!(known(&mesh), None);
        mesh.remember(now, at(1), Source::Application);
        mesh.remember(now, at(2), Source::Neighbour);
        assert_eq!(known(&mesh), Some(at(1)));
        mesh.remember(now, at(3), Source::Itself);
        assert_eq!(known(&mesh), Some(at(3)));
    }
}
