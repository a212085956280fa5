//! The report as a person reads it.

use std::fmt::Write as _;

use super::report::Report;

const OUTPUT_LINES_MAX: usize = 24;

/// Lays a report out for a person.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // A string takes every write.
    let _ = write(&mut text, report);
    text
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "\nNodes")?;
    for node in &report.nodes {
        let gone = if node.alive { "" } else { "  (killed)" };
        writeln!(out, "  {:<10} {}  {}{gone}", node.name, node.id.short(), node.role)?;
    }

    if let Some(capsule) = report.capsule_id {
        writeln!(out, "\nCapsule    {:.16}...", capsule.to_string())?;
    }
    if let Some(hash) = report.exec_hash {
        writeln!(out, "exec_hash  {:.16}...", hash.to_string())?;
    }
    if let (Some(status), Some(gas), Some(checkpoints)) = (&report.status, report.gas, report.checkpoints) {
        writeln!(out, "Run        {status}, {gas} gas, {checkpoints} checkpoints")?;
    }
    if let Some(receipt) = &report.receipt {
        let id = receipt.nullifier.to_string();
        writeln!(
            out,
            "Receipt    {id:.16}..., profile {}, {} bytes, proved in {} ms",
            receipt.profile, receipt.proof_bytes, receipt.prove_ms
        )?;
    }
    for (gate, view) in &report.gates {
        let shown = match (view.constraints, view.proven) {
            (0, _) => "not in this profile".to_owned(),
            (constraints, true) => format!("proven, {constraints} constraints"),
            (constraints, false) => format!("not verified, {constraints} constraints"),
        };
        writeln!(out, "  {gate:<9}{shown}")?;
    }
    if !report.verified_by.is_empty() {
        writeln!(out, "Verified   by {}", report.verified_by.join(", "))?;
    }

    if let Some(output) = &report.output {
        writeln!(out, "\nOutput of the capsule")?;
        let lines: Vec<_> = output.lines().collect();
        for line in lines.iter().take(OUTPUT_LINES_MAX) {
            writeln!(out, "  {line}")?;
        }
        if lines.len() > OUTPUT_LINES_MAX {
            writeln!(out, "  ... {} more lines", lines.len() - OUTPUT_LINES_MAX)?;
        }
    }

    if !report.circuits.is_empty() {
        writeln!(out, "\nCircuits")?;
        for circuit in &report.circuits {
            writeln!(
                out,
                "  {:<10} {:<16} {} -> {}",
                circuit.owner,
                circuit.purpose,
                circuit.relays.join(" -> "),
                circuit.destination
            )?;
        }
    }
    if let Some(killed) = &report.killed {
        writeln!(
            out,
            "\n{killed} was killed while chunks flowed; {} circuits were rebuilt",
            report.rebuilt.len()
        )?;
        for rebuilt in &report.rebuilt {
            let blamed = rebuilt.blamed.as_deref().unwrap_or("nobody by name");
            writeln!(
                out,
                "  {} {}: blamed {blamed}, now {}",
                rebuilt.circuit.owner,
                rebuilt.circuit.purpose,
                rebuilt.circuit.relays.join(" -> ")
            )?;
        }
    }
    if !report.refused.is_empty() {
        writeln!(out, "\nRefused")?;
        for refusal in &report.refused {
            writeln!(
                out,
                "  {:<10} refused {} of {}: check `{}`",
                refusal.by, refusal.what, refusal.culprit, refusal.check
            )?;
        }
    }

    writeln!(out, "\nTrust (thousandths, before -> after)")?;
    for (observer, peers) in &report.trust {
        let changed: Vec<_> = peers
            .iter()
            .filter(|(_, trust)| trust.before != trust.after)
            .map(|(peer, trust)| format!("{peer} {} -> {}", trust.before, trust.after))
            .collect();
        let text = if changed.is_empty() { "no change".into() } else { changed.join(", ") };
        writeln!(out, "  {observer:<10} {text}")?;
    }

    writeln!(out, "\nLedger (nano-mod; positive is owed to the node)")?;
    for (name, balance) in &report.ledger.balances {
        writeln!(out, "  {name:<10} {balance:>12}")?;
    }
    let chain = if report.ledger.chain_ok { "hold" } else { "DO NOT HOLD" };
    writeln!(out, "  {:<10} {:>12}   journals' hash chains {chain}", "sum", report.ledger.sum)?;

    let digests = if report.digests_converged { "equal on all living honest nodes" } else { "NOT equal" };
    writeln!(out, "\nState digests are {digests}")?;
    let phases: Vec<_> = report.elapsed_ms.0.iter().map(|(phase, ms)| format!("{phase} {ms} ms")).collect();
    writeln!(out, "Time: {}", phases.join(", "))?;
    if let Some(error) = &report.error {
        writeln!(out, "\nThe capsule did not do its work: {error}")?;
    }
    Ok(())
}
