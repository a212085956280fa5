use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use nonos_zk::groth16::{SnarkjsProof, VerifyingKey, solidity_arguments};
use serde::Serialize;

use super::{PUBLIC, ReceiptFile, verifying_key, write};
use crate::cli::{CliResult, print_json};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Export {
    /// For snarkjs: verification_key.json, and proof.json and public.json of a receipt
    #[command(after_help = "Check the receipt without us:\n  \
        snarkjs groth16 verify verification_key.json public.json proof.json")]
    Snarkjs(Source),
    /// For an EVM chain: verifier.sol, and arguments.txt for verifyProof of a receipt
    #[command(
        after_help = "arguments.txt has one word of 32 bytes a line, in hex: eight of the proof, then \
        the inputs"
    )]
    Solidity(Source),
}

/// What is exported, and where to.
#[derive(Debug, Args)]
pub(in crate::cli) struct Source {
    /// The verifying key
    #[arg(long, value_name = "FILE")]
    verifying_key: PathBuf,
    /// A receipt, or a disclosure with one, whose proof is exported, too
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Folder that the files go to
    #[arg(default_value = ".")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The name of a file, and its content.
type Named = (&'static str, Vec<u8>);

impl Export {
    pub(super) fn run(self) -> CliResult {
        match self {
            Self::Snarkjs(source) => source.export(snarkjs),
            Self::Solidity(source) => source.export(solidity),
        }
    }
}

impl Source {
    fn export(
        &self,
        files: impl Fn(&VerifyingKey, Option<&ReceiptFile>) -> Result<Vec<Named>, Box<dyn Error>>,
    ) -> CliResult {
        let key = verifying_key(&self.verifying_key)?;
        let receipt = self.receipt.as_deref().map(ReceiptFile::read).transpose()?;
        if let Some(receipt) = receipt.as_ref().filter(|receipt| receipt.body.verifying_key != key.id()) {
            return Err(format!(
                "the receipt is for verifying key {}, and this is {}",
                receipt.body.verifying_key,
                key.id()
            )
            .into());
        }
        std::fs::create_dir_all(&self.out)?;
        let files = files(&key, receipt.as_ref())?;
        for (name, content) in &files {
            write(&self.out.join(name), content, PUBLIC)?;
        }
        let paths: Vec<_> = files.iter().map(|(name, _)| self.out.join(name)).collect();
        if self.json {
            print_json(&serde_json::json!({ "verifying_key": key.id().to_string(), "files": paths }))?;
        } else {
            paths.iter().for_each(|path: &PathBuf| println!("{}", Path::new(path).display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn snarkjs(key: &VerifyingKey, receipt: Option<&ReceiptFile>) -> Result<Vec<Named>, Box<dyn Error>> {
    let mut files = vec![("verification_key.json", json(&key.to_snarkjs())?)];
    if let Some(ReceiptFile { body, .. }) = receipt {
        files.push(("proof.json", json(&SnarkjsProof::new(&body.proof)?)?));
        files.push(("public.json", json(&body.statement.to_snarkjs(body.proof.profile()))?));
    }
    Ok(files)
}

fn solidity(key: &VerifyingKey, receipt: Option<&ReceiptFile>) -> Result<Vec<Named>, Box<dyn Error>> {
    let mut files = vec![("verifier.sol", key.to_solidity().into_bytes())];
    if let Some(ReceiptFile { body, .. }) = receipt {
        let words = solidity_arguments(&body.statement, &body.proof)?;
        let lines: String = words.iter().map(|word| format!("0x{}\n", HEXLOWER.encode(word))).collect();
        files.push(("arguments.txt", lines.into_bytes()));
    }
    Ok(files)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}
