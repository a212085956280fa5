//! Who exchanges packets with whom when a client visits an onion service: a process and a network namespace for
//! each party, and every packet of theirs seen by the switch between them.
//!
//! Nodes link to each other only when a circuit wants to, so whoever exchanges a packet with another does it for a
//! circuit. The nodes of a mesh have links beside these, for gossip: to keep the guards among them is what `nonos-node`
//! does, and that is not shown here.

use std::collections::BTreeSet;
use std::time::Duration;

use nonos_identity::NodeId;
use nonos_onion::rendezvous::ports;

use super::processes::{Process, path};
use super::switch::{RENO, Switch, Wire};
use crate::Failure;
use crate::report::{Better, Of, Row, count};

const CLIENT: usize = 0;
const SERVICE: usize = 1;
/// The hosts from here on are relays.
const FIRST_RELAY: usize = 2;
/// Enough that guards, second hops, introduction points and rendezvous can all be others.
const RELAYS: usize = 12;
/// Relays of a circuit before its end.
const HOPS: u8 = 3;
/// Each with a rendezvous of its own.
const VISITS: usize = 10;
const BYTES: usize = 100_000;

/// Packets of one run, by host.
struct Seen {
    sent: BTreeSet<(usize, Option<usize>)>,
    nodes: Vec<NodeId>,
}

impl Seen {
    /// Everybody to whom a host sent packets, or from whom it got some. `None` is an address of no host.
    fn partners(&self, host: usize) -> BTreeSet<Option<usize>> {
        let to = self.sent.iter().filter(|(from, _)| *from == host).map(|(_, to)| *to);
        let from = self.sent.iter().filter(|(_, to)| *to == Some(host)).map(|(from, _)| Some(*from));
        to.chain(from).collect()
    }

    fn is_one_of(&self, partner: Option<usize>, nodes: &[NodeId]) -> bool {
        partner.and_then(|host| self.nodes.get(host)).is_some_and(|node| nodes.contains(node))
    }
}

/// Visits a service; an error says what did not work.
pub(super) fn observe() -> Result<Vec<Row>, Failure> {
    let wire = Wire { delay: Duration::from_millis(1), bytes_per_second: None, lost: 0 };
    let switch = Switch::new(&[wire; FIRST_RELAY + RELAYS], RENO)?;
    let mut nodes = Vec::new();
    for host in 0..FIRST_RELAY + RELAYS {
        let listen = format!("/ip4/{}/tcp/0", Switch::address(host));
        nodes.push(Process::start(u8::try_from(host + 1)?, &listen, 0, Some(switch.namespace(host)?))?);
    }
    let relays = path(nodes.iter_mut().skip(FIRST_RELAY))?;
    let ids: Vec<NodeId> = nodes.iter().map(Process::node).collect();
    for at in 0..nodes.len() {
        let (before, rest) = nodes.split_at_mut(at);
        let Some((node, after)) = rest.split_first_mut() else { break };
        // The relays alone: nothing tells a client or a service where the other is.
        node.know(before.iter().chain(&*after).filter(|other| !ends(&ids).contains(&other.node())))?;
    }
    let [client, server, ..] = nodes.as_mut_slice() else { return Err("a client and a service".into()) };
    client.learn(&relays, HOPS)?;
    server.learn(&relays, HOPS)?;
    let address = server.offer()?;
    for _ in 0..VISITS {
        client.visit(&address, BYTES)?;
    }
    let guards = [client.guards()?, server.guards()?];
    let mut hubs = Vec::new();
    for (host, node) in nodes.iter_mut().enumerate().skip(FIRST_RELAY) {
        if node.ports()?.iter().any(|port| ports::ALL.contains(port)) {
            hubs.push(host);
        }
    }
    Ok(rows(&Seen { sent: switch.sent(), nodes: ids }, &guards, &hubs))
}

fn ends(nodes: &[NodeId]) -> &[NodeId] {
    nodes.get(..FIRST_RELAY).unwrap_or_default()
}

fn rows(seen: &Seen, guards: &[Vec<NodeId>; 2], hubs: &[usize]) -> Vec<Row> {
    let row = |name: String, better, found: usize, target: f64| {
        Row::alone(name, "hosts", better, &[count(found)]).target(Of::Ours, target)
    };
    let mut rows = Vec::new();
    for (end, name, guards) in [(CLIENT, "client", &guards[0]), (SERVICE, "service", &guards[1])] {
        let partners = seen.partners(end);
        let of_guards = partners.iter().filter(|partner| seen.is_one_of(**partner, guards)).count();
        let others = partners.len() - of_guards;
        rows.push(row(
            format!("guards with which the {name} exchanged packets"),
            Better::Higher,
            of_guards,
            1.0,
        ));
        rows.push(row(format!("others with which the {name} did"), Better::Lower, others, 0.0));
    }
    let saw_neither =
        |hub: &&usize| !seen.partners(**hub).iter().any(|it| seen.is_one_of(*it, ends(&seen.nodes)));
    let hidden_from = hubs.iter().filter(saw_neither).count();
    rows.push(row(
        "introduction points and rendezvous that exchanged packets with neither".into(),
        Better::Higher,
        hidden_from,
        1.0,
    ));
    rows
}
