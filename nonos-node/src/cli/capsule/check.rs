use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_capsule::{Caps, HostCall, HostCallSet, Interface, ProfileError, function_name, instrument};
use nonos_node::pack;

use super::{read, unsigned};
use crate::cli::{CliResult, print_json};

/// Looks at a module as a node would before it compiles it.
///
/// It names the first instruction outside of the deterministic profile with its function, and what
/// to do about it; and the host calls that the module needs beyond those of the default policy.
/// Exit status 1 if the module cannot be a capsule.
#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// The module (.wasm or .wat) or a capsule (.mod)
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> CliResult {
        let bytes = read(&self.file)?;
        // A capsule also says which libraries it calls; a bare module cannot.
        let (wasm, libraries) = if pack::is_capsule(&bytes) {
            let capsule = unsigned(&self.file)?;
            let libraries = capsule.dependencies().iter().filter(|need| need.mount.is_none());
            (capsule.payload().to_vec(), libraries.map(|need| need.name.clone()).collect())
        } else {
            (pack::to_wasm(&bytes)?, Vec::new())
        };
        let (refused, has_floats) = match instrument::meter(&wasm, &Caps::default()) {
            Ok(metered) => (None, metered.has_floats()),
            Err(error) => (Some(error), false),
        };
        let imports = Interface::of(&wasm).imports;
        let known =
            |module: &str, name: &str| name.parse::<HostCall>().ok().filter(|call| call.module() == module);
        let unknown: Vec<String> = imports
            .iter()
            .filter(|import| {
                known(&import.module, &import.name).is_none() && !libraries.contains(&import.module)
            })
            .map(|import| format!("{}.{}", import.module, import.name))
            .collect();
        let needs: HostCallSet =
            imports.iter().filter_map(|import| known(&import.module, &import.name)).collect();
        let beyond: Vec<&str> =
            needs.iter().filter(|call| !HostCallSet::COMMAND.contains(*call)).map(HostCall::name).collect();
        let is_capable = refused.is_none() && unknown.is_empty();
        let reason = refused.as_ref().map(|error| describe(&wasm, error));
        if self.json {
            print_json(&serde_json::json!({
                "file": self.file,
                "can_be_a_capsule": is_capable,
                "refused": reason,
                "unknown_imports": unknown,
                "host_calls": needs,
                "beyond_the_default_policy": beyond,
                "computes_with_floats": has_floats,
            }))?;
        } else {
            if let Some(reason) = reason {
                println!("refused: {reason}");
            }
            for import in &unknown {
                println!(
                    "refused: it imports {import}, which no host has; a capsule imports functions of {}, {} and \
                     of libraries that its manifest names",
                    HostCall::WASI_MODULE,
                    HostCall::NONOS_MODULE
                );
            }
            if is_capable {
                println!("{} can be a capsule", self.file.display());
            }
            if has_floats {
                println!("it computes with floats; canonical NaNs make that up to four times slower");
            }
            if !beyond.is_empty() {
                println!(
                    "its policy must allow beyond the default: host_calls = {beyond:?} and those of the default"
                );
            }
        }
        Ok(if is_capable { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// The refusal of a module, if there is one, in words that help its author.
pub(super) fn explain(wasm: &[u8]) -> Result<(), Box<dyn Error>> {
    match instrument::meter(wasm, &Caps::default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(describe(wasm, &error).into()),
    }
}

/// An error that names a function by its index, with the name its author gave it.
fn describe(wasm: &[u8], error: &ProfileError) -> String {
    let index = match error {
        ProfileError::Operator { function, .. } => Some(*function),
        ProfileError::Cap { function, .. } => *function,
        _ => None,
    };
    match index.and_then(|index| function_name(wasm, index)) {
        Some(name) => format!("{error} (that function is {name})"),
        None => error.to_string(),
    }
}
