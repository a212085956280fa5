//! When a stored item no longer counts.

use nonos_capsule::Head;
use nonos_identity::wire;
use nonos_identity::{Envelope, Timestamp};
use nonos_mesh::{Item, ItemKind};

use crate::gate::{JOB_ITEM, OPERATORS_ITEM, VERDICT_ITEM};
use crate::records::{Fulfilment, Job};

/// The expiry an item carries. It was checked when the item was taken in; `None` if it has none.
pub(crate) fn of(item: &Item) -> Option<Timestamp> {
    let bytes = item.bytes();
    match item.kind() {
        ItemKind::Receipt => {
            let fulfilment: Fulfilment = wire::from_bytes(bytes).ok()?;
            Some(envelope(&fulfilment.commission.0)?.min(envelope(&fulfilment.receipt.0)?))
        }
        ItemKind::Manifest => head(bytes),
        ItemKind::Attestation | VERDICT_ITEM | OPERATORS_ITEM => envelope(bytes),
        JOB_ITEM => envelope(&wire::from_bytes::<Job>(bytes).ok()?.commission.0),
        _ => None,
    }
}

fn envelope(bytes: &[u8]) -> Option<Timestamp> {
    let mut expiry = None;
    let read = Envelope::parse(bytes).ok()?.check(|envelope| {
        expiry = Some(envelope.header().expiry);
        Ok::<_, ()>(())
    });
    read.ok().and(expiry)
}

/// A head counts as long as its longest signature.
fn head(bytes: &[u8]) -> Option<Timestamp> {
    let mut expiry = None;
    let read = Head::parse(bytes).ok()?.check(|head| {
        expiry = head.signatures().iter().map(|signature| signature.expiry).max();
        Ok::<_, ()>(())
    });
    read.ok().and(expiry)
}
