//! What the control interface can ask of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use nonos_identity::OnionAddress;
use nonos_ledger::{AccountId, Balance};
use nonos_mesh::Ticket;
use nonos_onion::{AnonymitySet, anonymity_set};

use crate::clock::{self, millis};
use crate::control::{Books, PeerTrust, Request, Response, ServiceView, Status};
use crate::node::{Node, Shared};
use crate::services::ServiceError;
use crate::tasks::blocking;
use crate::{dispute, executor, inquiry, publisher};

/// Longest wait for events that a client can ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);

impl Node {
    /// Does what a control request asks.
    pub async fn handle(&self, request: Request) -> Response {
        let outcome = match request {
            Request::Status => self.shared.status().await.map(Response::Status),
            Request::Ticket => self.ticket(),
            Request::Join { ticket } => self.join(&ticket).await,
            Request::Publish { capsule, input } => {
                let published = publisher::publish(&self.shared, &capsule, &input).await;
                published.map(|(capsule, job)| Response::Published { capsule, job }).map_err(chain)
            }
            Request::Fetch { capsule } => {
                let provider = self.shared.provider(&capsule);
                match provider {
                    Some(provider) => {
                        let shared = self.shared.clone();
                        tokio::spawn(async move { executor::keep(&shared, provider, capsule).await });
                        Ok(Response::Done)
                    }
                    None => {
                        Err("no job names a provider of this capsule; wait for its publisher's job".into())
                    }
                }
            }
            Request::Fields { capsule, fields, from } => {
                inquiry::fields(&self.shared, capsule, fields, from).await.map_err(chain)
            }
            Request::Disclosure { receipt, from } => {
                inquiry::receipt(&self.shared, receipt, from).await.map_err(chain)
            }
            Request::Events { since, wait_ms } => {
                let patience = Duration::from_millis(wait_ms).min(WAIT_MAX);
                Ok(Response::Events { entries: self.shared.events.wait(since, patience).await })
            }
            Request::Books => {
                let shared = self.shared.clone();
                match blocking(move || shared.books()).await {
                    Some(books) => books.map(Response::Books),
                    None => Err("the node is stopping".into()),
                }
            }
            Request::Services { of } => self.shared.list_services(of).map_err(chain),
            Request::Reach { target } => {
                let reached = self.shared.reach(&target).await.map_err(chain);
                reached.map(|took| Response::Reached { elapsed_ms: millis(took) })
            }
            Request::Forward { target, listen } => {
                let listening = self.shared.forward(&target, listen).await.map_err(chain);
                listening.map(|listen| Response::Listening { listen })
            }
            Request::Operators => Ok(Response::Operators { trees: self.shared.operator_trees() }),
            Request::PublishOperators => {
                self.shared.publish_operators().await.map(|tree| Response::Operators { trees: vec![tree] })
            }
            Request::Dispute { job, first, second } => {
                let second = second.unwrap_or(self.shared.me);
                dispute::settle(&self.shared, job, first, second).await.map(Response::Dispute).map_err(chain)
            }
            Request::Judge { charge } => dispute::judge(&self.shared, charge).await.map_err(chain),
            Request::Stop => {
                self.shared.stopping.send_replace(true);
                Ok(Response::Done)
            }
        };
        outcome.unwrap_or_else(|message| Response::Error { message })
    }

    fn ticket(&self) -> Result<Response, String> {
        let ticket =
            self.shared.mesh.ticket().ok_or("this node listens nowhere, so nobody can join through it")?;
        Ok(Response::Ticket { ticket: ticket.to_string() })
    }

    async fn join(&self, ticket: &str) -> Result<Response, String> {
        let ticket: Ticket = ticket.parse().map_err(|error| format!("not a ticket: {error}"))?;
        if ticket.network != self.shared.network {
            return Err(format!("the ticket is for another mesh than {}", self.shared.config.network));
        }
        for contact in ticket.contacts {
            self.shared.mesh.dial(contact).await.map_err(chain)?;
        }
        Ok(Response::Done)
    }
}

impl Shared {
    async fn status(&self) -> Result<Status, String> {
        let now = clock::now();
        let links = self.mesh.links().await.map_err(chain)?;
        let digests = self.mesh.digests().await.map_err(chain)?;
        let (peers, relays) = {
            let board = self.board();
            (board.peers.keys().copied().collect(), board.relays(now))
        };
        let anonymity = match anonymity_set(&relays, now) {
            AnonymitySet::Sufficient => "sufficient".to_owned(),
            AnonymitySet::Insufficient { operators } => format!(
                "insufficient: {operators} operators besides this one, {} needed to hide among",
                nonos_onion::MIN_OPERATORS
            ),
        };
        let links: BTreeSet<_> = links.into_iter().map(|(_, node)| node).collect();
        let guards = self.guards().all();
        let transit = match &self.transit {
            Some(transit) => transit.view(&self.config.circuits).await,
            None => None,
        };
        Ok(Status {
            transit,
            node: self.me,
            network: self.config.network.clone(),
            onion_address: self.onion_address().to_string(),
            listen: self.mesh.contact().addresses.clone(),
            links: links.iter().copied().collect(),
            peers,
            relays: relays.len(),
            guards: guards.len(),
            guards_linked: guards.iter().filter(|guard| links.contains(guard)).count(),
            hops: self.hops().class().relays(),
            enrolled: self.operators(now).len(),
            anonymity,
            digests: digests
                .into_iter()
                .map(|state| {
                    (
                        format!("{:?}", state.collection).to_lowercase(),
                        format!("{}/{}", state.count, state.root),
                    )
                })
                .collect(),
        })
    }

    fn books(self: &Arc<Self>) -> Result<Books, String> {
        let now = clock::now();
        let trust = {
            let mut trust = self.trust();
            trust.refresh(now);
            let known: BTreeSet<_> = trust.peers().chain(self.board().peers.keys().copied()).collect();
            let view = |peer| {
                let score = trust.score(&peer, now);
                let explain = trust.explain(&peer, now).iter().map(ToString::to_string).collect();
                (
                    peer,
                    PeerTrust { permille: score.permille().into(), state: score.state.to_string(), explain },
                )
            };
            known.into_iter().filter(|peer| *peer != self.me).map(view).collect::<BTreeMap<_, _>>()
        };
        let ledger = self.ledger();
        let accounts = ledger.balances().map_err(chain)?;
        let balances: BTreeMap<_, _> =
            accounts.iter().map(|(id, account)| (id.to_string(), nano(account.balance()))).collect();
        let position = nano(ledger.balance(AccountId::Node(self.me)).map_err(chain)?);
        let chain_ok = ledger.verify_chain().is_ok();
        let transfers = ledger.head().map_err(chain)?.length;
        Ok(Books { trust, balances, position, transfers, chain_ok })
    }

    fn list_services(&self, of: Option<String>) -> Result<Response, ServiceError> {
        let view = |(name, address, publications, points): (&str, OnionAddress, u64, usize)| ServiceView {
            name: name.into(),
            address: address.to_string(),
            publications,
            points,
        };
        let client_key = of.map(|text| {
            let address: OnionAddress = text.parse().map_err(|_| ServiceError::Address(text))?;
            Ok::<_, ServiceError>(HEXLOWER.encode(&self.client_key(&address).public()))
        });
        let services = self.services().hosts().map(view).collect();
        Ok(Response::Services { services, client_key: client_key.transpose()? })
    }

    /// Who seeds a capsule, as far as the jobs for it say.
    fn provider(&self, capsule: &nonos_identity::WideDigest) -> Option<nonos_identity::NodeId> {
        let board = self.board();
        let job =
            board.jobs.values().find(|job| job.commission.capsule == *capsule && job.publisher != self.me)?;
        Some(job.publisher)
    }
}

/// A balance as JSON readers can hold it; beyond 9.2 thousand million mod it stays at that bound.
fn nano(balance: Balance) -> i64 {
    let nano = balance.as_nano();
    i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX })
}

/// An error with its causes, in one line.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
