//! `nonos` as somebody runs it, in a directory of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) fn nonos(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nonos"));
    command.args(args).current_dir(dir).env("NONOS_PASSPHRASE", "correct horse");
    command.env("NONOS_NEW_PASSPHRASE", "battery staple").stdin(Stdio::null());
    command
}

pub(crate) fn run(dir: &Path, args: &[&str]) -> Output {
    nonos(dir, args).output().expect("runs")
}

/// The report of a command that succeeds.
pub(crate) fn json(dir: &Path, args: &[&str]) -> Value {
    let output = run(dir, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command says that fails.
pub(crate) fn refused(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}
