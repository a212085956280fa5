use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nonos_capsule::Kind;
use nonos_node::pack;

use super::recipe::{BuildRecipe, FILE, Language, Recipe};
use super::write;
use crate::cli::{CliResult, print_json};

/// Writes a small capsule that turns its input into capitals, ready for `nonos capsule build`.
#[derive(Debug, Args)]
pub(in crate::cli) struct New {
    /// Folder to make; its name becomes the capsule's
    folder: PathBuf,
    /// The language
    #[arg(long, value_enum, default_value_t)]
    language: Language,
    /// Path of the guest crate for Rust capsules [default: the published crate]
    #[arg(long, value_name = "DIR")]
    guest: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const RUST: &str = include_str!("templates/lib.rs.txt");
const C: &str = include_str!("templates/main.c");
const WAT: &str = include_str!("templates/main.wat");

impl New {
    pub(super) fn run(self) -> CliResult {
        let stem = self.folder.file_name().ok_or("the folder needs a name")?;
        let name = pack::manifest_name(&stem.to_string_lossy());
        if self.folder.exists() {
            return Err(format!("{} exists already; nothing was written", self.folder.display()).into());
        }
        let mut files = match self.language {
            Language::Rust => {
                vec![("Cargo.toml", self.cargo_toml(&name)?), ("src/lib.rs", RUST.to_owned())]
            }
            Language::C => vec![("main.c", C.to_owned())],
            Language::Wat => vec![("main.wat", WAT.to_owned())],
        };
        let source = match self.language {
            Language::Rust => None,
            Language::C => Some("main.c".into()),
            Language::Wat => Some("main.wat".into()),
        };
        let recipe = Recipe {
            build: Some(BuildRecipe { language: self.language, source }),
            ..Recipe::plain(Kind::Command, &name)
        };
        files.push((FILE, recipe_text(&recipe)?));
        for (path, content) in &files {
            let path = self.folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            write(&path, content.as_bytes())?;
        }
        if self.json {
            let names: Vec<_> = files.iter().map(|(path, _)| path).collect();
            print_json(&serde_json::json!({ "name": name, "folder": self.folder, "files": names }))?;
        } else {
            println!("capsule {name} in {}; next: nonos capsule build {0}", self.folder.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn cargo_toml(&self, name: &str) -> Result<String, Box<dyn Error>> {
        let guest = match &self.guest {
            Some(path) => format!("{{ path = {:?} }}", path.canonicalize()?.display().to_string()),
            None => format!("{:?}", env!("CARGO_PKG_VERSION")),
        };
        let crate_name = name.replace('.', "-");
        Ok(format!(
            "[package]\nname = \"{crate_name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = \
             [\"cdylib\", \"rlib\"]\n\n[dependencies]\nnonos-capsule-guest = {guest}\n\n[profile.release]\nopt-level = \
             \"s\"\nlto = true\npanic = \"abort\"\nstrip = true\n\n[workspace]\n"
        ))
    }
}

/// The recipe as an author wants to read it: what has a default and is rarely changed stays out.
fn recipe_text(recipe: &Recipe) -> Result<String, Box<dyn Error>> {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        build: &'a Option<BuildRecipe>,
        manifest: ShownManifest<'a>,
        policy: ShownPolicy,
    }
    #[derive(serde::Serialize)]
    struct ShownManifest<'a> {
        name: &'a str,
        version: &'a str,
    }
    #[derive(serde::Serialize)]
    struct ShownPolicy {
        gas_limit: u64,
        memory_pages_max: u32,
        output_max_bytes: u64,
    }
    let Recipe { build, manifest, policy, .. } = recipe;
    Ok(toml::to_string(&Shown {
        build,
        manifest: ShownManifest { name: &manifest.name, version: &manifest.version },
        policy: ShownPolicy {
            gas_limit: policy.gas_limit,
            memory_pages_max: policy.memory_pages_max,
            output_max_bytes: policy.output_max_bytes,
        },
    })?)
}
