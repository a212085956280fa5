use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use nonos_node::pack;

use super::read;
use super::recipe::{FILE, Language, Recipe};
use crate::cli::{CliResult, print_json};

/// Compiles what capsule.toml names and packs it.
///
/// Rust needs the target wasm32-unknown-unknown (`rustup target add wasm32-unknown-unknown`), or on
/// Debian the packages rustc-web, cargo-web, rust-web-src and lld. C needs clang and wasi-libc
/// (Debian: clang, lld, wasi-libc and libclang-rt-dev-wasm32).
#[derive(Debug, Args)]
pub(in crate::cli) struct Build {
    /// Folder with capsule.toml
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where to write the capsule [default: the capsule's name with .mod, in the folder]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The target of Rust capsules.
const RUST_TARGET: &str = "wasm32-unknown-unknown";

impl Build {
    pub(super) fn run(self) -> CliResult {
        let recipe = Recipe::load(&self.folder.join(FILE))?;
        let build = recipe
            .build
            .clone()
            .ok_or("capsule.toml has no [build]; pack the module with: nonos capsule pack")?;
        let source = |name: &str| self.folder.join(build.source.clone().unwrap_or_else(|| name.into()));
        let module = match build.language {
            Language::Wat => read(&source("main.wat"))?,
            Language::C => self.compile_c(&source("main.c"))?,
            Language::Rust => self.compile_rust()?,
        };
        let wasm = pack::to_wasm(&module)?;
        super::check::explain(&wasm)?;
        let output = self
            .output
            .clone()
            .unwrap_or_else(|| self.folder.join(&recipe.manifest.name).with_extension("mod"));
        let capsule = recipe.pack(wasm, &output)?;
        if self.json {
            print_json(&capsule.inspect())?;
        } else {
            println!("capsule {}", capsule.id());
            println!("written to {}; next: nonos capsule sign {0}", output.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn compile_c(&self, source: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
        let names = ["clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"];
        let clang = names
            .into_iter()
            .find(|name| succeeds(Command::new(name).arg("--version")))
            .ok_or("no clang found; on Debian: apt install clang lld wasi-libc libclang-rt-dev-wasm32")?;
        let folder = tempfile::tempdir()?;
        let module = folder.path().join("module.wasm");
        let mut command = Command::new(clang);
        command.args(["--target=wasm32-wasi", "--sysroot=/usr", "-O2", "-o"]).arg(&module).arg(source);
        finish(&mut command)?;
        read(&module)
    }

    fn compile_rust(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut command = self.cargo()?;
        command.args(["build", "--release", "--lib", "--target", RUST_TARGET]).current_dir(&self.folder);
        finish(&mut command)?;
        let folder = self.folder.join("target").join(RUST_TARGET).join("release");
        let modules: Vec<PathBuf> = std::fs::read_dir(&folder)
            .map_err(|error| format!("cannot read {}: {error}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
            .collect();
        match &modules[..] {
            [module] => read(module),
            [] => Err("the crate builds no module; its Cargo.toml needs crate-type = [\"cdylib\"]".into()),
            _ => Err(format!("more than one module in {}; remove the old ones", folder.display()).into()),
        }
    }

    /// The cargo that has the target: rustup's, or Debian's with the standard library from source.
    fn cargo(&self) -> Result<Command, Box<dyn Error>> {
        let libdir =
            Command::new("rustc").args(["--print", "target-libdir", "--target", RUST_TARGET]).output();
        let has_target = libdir.is_ok_and(|output| {
            output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
        });
        let target_dir = self.folder.join("target").canonicalize().unwrap_or(self.folder.join("target"));
        if has_target {
            let mut command = Command::new("cargo");
            command.env("CARGO_TARGET_DIR", absolute(&target_dir)?);
            return Ok(command);
        }
        let sources = ["/usr/lib/rustlib/src", "/usr/src/rustc-web", "/usr/lib/rust-web/lib/rustlib/src"];
        let debian =
            Path::new("/usr/bin/rustc").exists() && sources.iter().any(|path| Path::new(path).exists());
        if !debian {
            return Err(
                "no standard library for wasm32-unknown-unknown here; with rustup: rustup target add \
                        wasm32-unknown-unknown; on Debian: apt install rustc-web cargo-web rust-web-src lld"
                    .into(),
            );
        }
        let mut command = Command::new("/usr/bin/cargo");
        command
            .env("RUSTC", "/usr/bin/rustc")
            // Debian ships no compiled standard library for this target, and building it takes this.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
            // Its compiler looks for a linker of a name that its package of lld does not have.
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld")
            .env("CARGO_TARGET_DIR", absolute(&target_dir)?)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO");
        Ok(command)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    Ok(std::path::absolute(path)?)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a compiler; what it says goes to the terminal as it says it.
fn finish(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed: {status}").into()) }
}
