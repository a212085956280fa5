//! As a relay: keeping proofs, and showing them to whom they are for.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nonos_identity::wire::Wire as _;
use nonos_identity::{Digest, Epoch, wire};
use nonos_onion::link::{LocalCircuitId, Transit as Event, Transits};
use nonos_onion::transit::{Commitment, Opening, Promise, Share, SignedReceipt};
use tokio::io::{AsyncRead, AsyncWrite};

use super::file::Batch;
use super::{Answer, Shown, Transit};
use crate::clock;
use crate::config::Tamper;
use crate::node::Shared;
use crate::submit::{answer_with, read_record};
use crate::tasks::blocking;

/// Challenges held of circuits that go on, 64 MiB. Against clients who open circuits to make a relay remember.
const CHALLENGES_MAX: usize = 1 << 21;
/// Proofs written at once at most: they share one wait for the disk.
const WRITE_MAX: usize = 1024;
/// Shortest time between two receipts, each over all that was proven in its epoch. Against clients who ask for
/// one after each batch.
const RECEIPT_INTERVAL: Duration = Duration::from_secs(1);

/// The circuits of which something can be proven in this run.
#[derive(Debug)]
pub(super) struct Going {
    circuits: BTreeMap<LocalCircuitId, Circuit>,
    challenges: usize,
    challenges_max: usize,
    epoch: u64,
}

#[derive(Debug)]
struct Circuit {
    promise: Promise,
    root: Digest,
    /// How many can be proven.
    batches: u16,
    /// How many are.
    kept: u16,
}

impl Going {
    pub(super) const fn new(challenges_max: usize) -> Self {
        Self { circuits: BTreeMap::new(), challenges: 0, challenges_max, epoch: 0 }
    }

    /// Forgets circuits that the end of their epoch has ended: their grace is shorter than an epoch.
    pub(super) fn advance(&mut self, now: Epoch) {
        if now.number() == self.epoch {
            return;
        }
        self.epoch = now.number();
        self.circuits.retain(|_, circuit| circuit.promise.epoch().next() >= now);
        self.challenges = self.circuits.values().map(|circuit| usize::from(circuit.batches)).sum();
    }

    pub(super) fn promised(&mut self, id: LocalCircuitId, promise: Promise) {
        let Commitment { batches, root, .. } = promise.commitment();
        self.challenges += usize::from(batches);
        self.circuits.insert(id, Circuit { promise, root, batches, kept: 0 });
        while self.challenges > self.challenges_max {
            // The oldest, of those that have carried nothing as long as there are such.
            let idle = self.circuits.iter().find(|(_, circuit)| circuit.kept == 0).map(|(id, _)| *id);
            let Some(oldest) = idle.or_else(|| self.circuits.keys().next().copied()) else { return };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, id: LocalCircuitId) {
        if let Some(circuit) = self.circuits.remove(&id) {
            self.challenges -= usize::from(circuit.batches);
        }
    }

    /// The batch to keep. Nothing of a circuit that is forgotten, nor behind a proof that was lost on the way:
    /// only a circuit's first batches can be shown.
    pub(super) fn carried(&mut self, id: LocalCircuitId, opening: Opening) -> Option<Batch> {
        let circuit = self.circuits.get_mut(&id)?;
        if !circuit.promise.is_opened(circuit.kept, &opening) {
            self.forget(id);
            return None;
        }
        let (number, root, epoch) = (circuit.kept, circuit.root, circuit.promise.epoch());
        circuit.kept += 1;
        let promise = (number == 0).then(|| circuit.promise.clone());
        Some(Batch { epoch, root, number, opening, promise })
    }
}

/// Keeps what this node can prove of the circuits of others.
pub(crate) async fn keep(shared: Arc<Shared>, mut transits: Transits) {
    let Some(transit) = &shared.transit else { return };
    let mut going = Going::new(CHALLENGES_MAX);
    while let Some(event) = transits.recv().await {
        going.advance(Epoch::at(clock::now()));
        let (mut events, mut batches) = (vec![event], Vec::new());
        while events.len() < WRITE_MAX {
            tokio::select! {
                biased;
                Some(event) = transits.recv() => events.push(event),
                () = std::future::ready(()) => break,
            }
        }
        let ids: Vec<LocalCircuitId> = events.iter().filter_map(carrier).collect();
        for event in events {
            match event {
                Event::Promised { circuit, promise } => going.promised(circuit, promise),
                Event::Carried { circuit, opening } => batches.extend(going.carried(circuit, opening)),
                _ => {}
            }
        }
        if batches.is_empty() {
            continue;
        }
        let file = transit.file.clone();
        match blocking(move || file.keep(&batches)).await {
            Some(Ok(true)) => continue,
            Some(Ok(false)) => tracing::warn!("more proofs of transit than a relay keeps"),
            Some(Err(error)) => shared.fail("keep proofs of transit", &error),
            None => {}
        }
        // What is not on the disk leaves a gap that no share crosses.
        ids.into_iter().for_each(|id| going.forget(id));
    }
}

fn carrier(event: &Event) -> Option<LocalCircuitId> {
    match event {
        Event::Carried { circuit, .. } => Some(*circuit),
        _ => None,
    }
}

/// A receipt and its shares, by root of the commitment.
#[derive(Debug)]
pub(super) struct Made {
    epoch: Epoch,
    at: Instant,
    receipt: SignedReceipt,
    shares: BTreeMap<Digest, Share>,
}

/// Answers one commitment. To know its root is to be the client: nobody else but this relay does.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let bytes = read_record(&mut stream, Commitment::MAX_BYTES).await?;
    let commitment: Commitment = wire::from_bytes(&bytes).map_err(io::Error::other)?;
    let shown = match &shared.transit {
        Some(transit) => show(shared, transit, &commitment).await?,
        None => None,
    };
    answer_with(&mut stream, &wire::to_bytes(&Answer(shown))).await
}

async fn show(shared: &Arc<Shared>, transit: &Transit, commitment: &Commitment) -> io::Result<Option<Shown>> {
    let Commitment { epoch, root, .. } = *commitment;
    let file = transit.file.clone();
    let kept = blocking(move || file.batches(epoch, &root)).await.ok_or(io::ErrorKind::BrokenPipe)?;
    let kept = kept.map_err(io::Error::other)?;
    if kept == 0 {
        return Ok(None);
    }
    // One receipt is made at a time, and whoever waited for it finds it made.
    let mut made = transit.made.lock().await;
    let is_shown = |made: &Made| {
        let share = made.shares.get(&root).filter(|_| made.epoch == epoch);
        share.is_some_and(|share| usize::try_from(share.batches()).is_ok_and(|batches| batches >= kept))
    };
    if !made.as_ref().is_some_and(is_shown) {
        if let Some(last) = &*made {
            tokio::time::sleep(RECEIPT_INTERVAL.saturating_sub(last.at.elapsed())).await;
        }
        let host = shared.clone();
        let file = transit.file.clone();
        let fresh = blocking(move || make(&host, &file, epoch)).await.ok_or(io::ErrorKind::BrokenPipe)?;
        *made = Some(fresh.map_err(io::Error::other)?);
    }
    let certificate = shared.credentials().signer.certificate.clone();
    Ok(made.as_ref().and_then(|made| {
        let share = made.shares.get(&root)?.clone();
        Some(Shown { certificate, receipt: made.receipt.clone(), share })
    }))
}

fn make(shared: &Shared, file: &super::TransitFile, epoch: Epoch) -> Result<Made, redb::Error> {
    let mut proofs = file.proofs(epoch)?;
    if shared.config.tamper == Some(Tamper::Transit) {
        let invented = || Digest::from_bytes(clock::random());
        proofs
            .iter_mut()
            .for_each(|(_, openings)| openings.push(Opening { own: invented(), ack: invented() }));
    }
    let circuits: Vec<_> = proofs.iter().map(|(promise, openings)| (promise, &openings[..])).collect();
    let (receipt, shares) = {
        let credentials = shared.credentials();
        SignedReceipt::settle(epoch, &circuits, &credentials.signer.key, &shared.network)
    };
    let roots = circuits.iter().map(|(promise, _)| promise.commitment().root);
    let shares = roots.zip(shares).collect();
    Ok(Made { epoch, at: Instant::now(), receipt, shares })
}
