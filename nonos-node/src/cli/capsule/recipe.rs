use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use nonos_capsule::{Capsule, Dependency, Field, HiddenFields, Kind, Manifest, Policy};
use nonos_identity::Epoch;
use nonos_node::openings;
use serde::{Deserialize, Serialize};

use super::{now, text, write};

/// Name of the recipe in the folder of a capsule.
pub(super) const FILE: &str = "capsule.toml";

/// In what a capsule is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    /// A library crate with the guest crate of this SDK
    #[default]
    Rust,
    /// One file of C on wasi-libc
    C,
    /// WebAssembly text
    Wat,
}

/// How a capsule is made: the file `capsule.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// What `nonos capsule build` compiles; not needed to pack a module that is there.
    #[serde(default)]
    pub(super) build: Option<BuildRecipe>,
    /// Name, version and kind.
    pub(super) manifest: Manifest,
    /// What it may use.
    #[serde(default)]
    pub(super) policy: Policy,
    /// The capsules it needs.
    #[serde(default)]
    pub(super) dependencies: Vec<Dependency>,
    /// Fields that only some may see.
    #[serde(default)]
    pub(super) hidden: Vec<Field>,
}

/// What is compiled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildRecipe {
    /// The language.
    pub(super) language: Language,
    /// The source file, below the folder; a Rust crate is the folder itself.
    #[serde(default)]
    pub(super) source: Option<PathBuf>,
}

impl Recipe {
    pub(super) fn load(path: &Path) -> Result<Self, Box<dyn Error>> {
        toml::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// A capsule of a name with everything else as it comes.
    pub(super) fn plain(kind: Kind, name: &str) -> Self {
        let manifest = if kind == Kind::Command {
            Manifest::new(name, "0.1.0")
        } else {
            Manifest::dependency(kind, name, "0.1.0")
        };
        Self {
            build: None,
            manifest,
            policy: Policy::default(),
            dependencies: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Packs a payload and writes the capsule; the seed of hidden fields goes beside it.
    pub(super) fn pack(self, payload: Vec<u8>, output: &Path) -> Result<Capsule, Box<dyn Error>> {
        let mut manifest = self.manifest;
        if manifest.kind != Kind::Command {
            manifest.entry.clear();
        }
        manifest.created = Epoch::at(now());
        if !self.hidden.is_empty() {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
            let fields = HiddenFields::new(seed, self.hidden)?;
            manifest.hidden = Some(fields.commit()?);
            openings::write_secret(&openings::secret_path(output), &fields)?;
        }
        let capsule = Capsule::pack_with(manifest, self.policy, self.dependencies, payload)?;
        write(output, &capsule.to_bytes())?;
        Ok(capsule)
    }
}
