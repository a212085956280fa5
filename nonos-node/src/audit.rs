//! What an executor discloses of its runs to authorised verifiers.

use std::error::Error;
use std::os::unix::fs::DirBuilderExt as _;

use nonos_identity::wire;
use nonos_identity::{Opening, PublicRun, StaticSecret};

use crate::node::Shared;
use crate::records::{Disclosure, Sealed};
use crate::{clock, files};

/// Directory of the disclosures to auditors in a data directory.
const DISCLOSURES: &str = "disclosures";
/// Keys that a disclosure is sealed to at least; those that are no auditor's are nobody's.
const SLOTS_MIN: usize = 8;

/// Writes what the authorised verifiers named in the settings may know.
pub(crate) fn disclose(
    shared: &Shared,
    receipt: &Sealed,
    opening: &Opening,
    shown: &PublicRun,
) -> Result<Option<Disclosure>, Box<dyn Error + Send + Sync>> {
    let mut auditors = shared.config.auditor_keys()?;
    if auditors.is_empty() {
        return Ok(None);
    }
    // Anybody may get the box, and an unusual number of auditors would name the executor.
    let slots = auditors.len().next_power_of_two().max(SLOTS_MIN);
    auditors.resize_with(slots, || StaticSecret::from_bytes(&clock::random()).public());
    let ephemeral = StaticSecret::from_bytes(&clock::random());
    let opening = opening.seal_to_all(&auditors, &ephemeral, shown, &shared.network)?;
    let disclosure = Disclosure { receipt: receipt.clone(), opening };
    let directory = shared.data_dir.join(DISCLOSURES);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let name = format!("{}.disclosure", shown.commitment);
    files::replace(&directory.join(name), &wire::to_bytes(&disclosure))?;
    Ok(Some(disclosure))
}
