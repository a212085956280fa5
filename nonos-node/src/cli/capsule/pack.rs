use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nonos_capsule::{Image, Kind, Manifest};
use nonos_node::pack;

use super::recipe::Recipe;
use super::{files_below, read};
use crate::cli::{CliResult, print_json};

/// Packs a module into an unsigned capsule. A folder or a .tar becomes an image: files that other
/// capsules mount.
#[derive(Debug, Args)]
pub(in crate::cli) struct Pack {
    /// The module (.wasm or .wat), a folder of files, or a plain .tar
    module: PathBuf,
    /// Where to write the capsule [default: the module's name with .mod]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Manifest, policy, dependencies and hidden fields, as in capsule.toml [default: the module's
    /// name, version 0.1.0, a WASI command without files and network]
    #[arg(long, value_name = "TOML")]
    recipe: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Pack {
    pub(super) fn run(self) -> CliResult {
        let stem =
            self.module.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let is_archive = self.module.extension().is_some_and(|extension| extension == "tar");
        let kind = if self.module.is_dir() || is_archive { Kind::Image } else { Kind::Command };
        let recipe = match &self.recipe {
            Some(path) => Recipe::load(path)?,
            None => Recipe::plain(kind, &pack::manifest_name(&stem)),
        };
        let payload = match recipe.manifest.kind {
            Kind::Image => archive(&self.module)?,
            _ => pack::to_wasm(&read(&self.module)?)?,
        };
        let output = self.output.unwrap_or_else(|| self.module.with_extension("mod"));
        let capsule = recipe.pack(payload, &output)?;
        if self.json {
            print_json(&capsule.inspect())?;
        } else {
            println!("capsule {}", capsule.id());
            println!("written to {}; next: nonos capsule sign {0}", output.display());
            if capsule.manifest().payload.digest.is_hidden() {
                println!(
                    "its digest is hidden: a payload for who opens the field {:?}",
                    Manifest::PERMIT_FIELD
                );
            }
            if capsule.manifest().hidden.is_some() {
                let secret = nonos_node::openings::secret_path(&output);
                println!("hidden fields in {}, yours alone: nonos capsule disclose", secret.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A folder as an archive that is the same on every machine, or an archive that is there.
fn archive(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = if path.is_dir() { of_folder(path)? } else { read(path)? };
    Image::from_tar(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}

fn of_folder(folder: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files_below(folder)? {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, &name, &bytes[..])?;
    }
    Ok(archive.into_inner()?)
}
