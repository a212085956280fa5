use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::unsigned;
use crate::cli::{CliResult, print_json};

/// Shows manifest, policy, needs, interface and who claims to have signed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Inspect {
    /// The capsule
    capsule: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> CliResult {
        let capsule = unsigned(&self.capsule)?;
        if self.json {
            print_json(&capsule.inspect())?;
            return Ok(ExitCode::SUCCESS);
        }
        let (manifest, policy) = (capsule.manifest(), capsule.policy());
        let names = |calls: nonos_capsule::HostCallSet| {
            calls.iter().map(|call| call.name()).collect::<Vec<_>>().join(" ")
        };
        println!("capsule     {}", capsule.id());
        println!("name        {} {} ({:?})", manifest.name, manifest.version, manifest.kind);
        println!(
            "payload     {} bytes in {} chunks{}",
            manifest.payload.size_bytes,
            capsule.head().chunk_count(),
            if manifest.payload.digest.is_hidden() { ", its digest hidden" } else { "" }
        );
        println!("gas limit   {}", policy.gas_limit);
        println!("memory      {} pages of 64 KiB", policy.memory_pages_max);
        println!("host calls  {}", names(policy.host_calls));
        for function in &capsule.head().interface().imports {
            println!("imports     {}.{} {}", function.module, function.name, function.signature);
        }
        for need in capsule.dependencies() {
            let place = need.mount.as_deref().map(|path| format!(" at {path}")).unwrap_or_default();
            println!("needs       {} = capsule {}{place}", need.name, need.capsule);
        }
        if manifest.hidden.is_some() {
            println!("hidden      some fields, by a commitment: nonos capsule fields");
        }
        for attestation in capsule.attestations() {
            println!(
                "attested    kind {} by {}, {} bytes  (not checked here)",
                attestation.kind,
                attestation.key,
                attestation.body.len()
            );
        }
        for (role, key) in capsule.signers() {
            println!("signature   {role:?} {key}  (not checked here: nonos capsule verify)");
        }
        Ok(ExitCode::SUCCESS)
    }
}
