use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nonos_capsule::{Capsule, Hidden, HiddenFields, Release};
use nonos_node::openings;

use super::unsigned;
use crate::cli::{CliResult, print_json};

/// Lists the hidden fields of a capsule: their places and rules, which everybody may know, and their
/// names and values where the author's file lies beside it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Fields {
    /// The capsule
    capsule: PathBuf,
    /// The author's hidden fields [default: the capsule's name with .hidden]
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Fields {
    pub(super) fn run(self) -> CliResult {
        let capsule = unsigned(&self.capsule)?;
        let hidden = hidden(&capsule)?;
        let fields = match &self.secret {
            Some(_) => Some(secret(&self.capsule, self.secret.as_deref(), hidden)?),
            None => secret(&self.capsule, None, hidden).ok(),
        };
        let known = |place: usize| fields.as_ref().and_then(|fields| fields.fields().get(place));
        if self.json {
            let rows = hidden.releases().iter().enumerate().map(|(place, rule)| {
                let (name, value) = known(place).map(|it| (&it.name, &it.value)).unzip();
                serde_json::json!({ "field": place, "release": rule, "name": name, "value": value })
            });
            print_json(&serde_json::json!({
                "capsule": capsule.id(),
                "fields": rows.collect::<Vec<_>>(),
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("capsule  {}", capsule.id());
        for (place, rule) in hidden.releases().iter().enumerate() {
            let content = known(place).map(|it| format!("  {} = {:?}", it.name, it.value));
            println!("field {place:<3}{}{}", text(rule), content.unwrap_or_default());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A rule in words.
fn text(rule: &Release) -> String {
    match rule {
        Release::Public => "everybody".into(),
        Release::Peers(peers) => format!("the holders of {} keys, sealed to them", peers.len()),
        Release::After(when) => format!("everybody from {when} on"),
        _ => "its author alone".into(),
    }
}

/// What a capsule says of its hidden fields.
pub(super) fn hidden(capsule: &Capsule) -> Result<&Hidden, Box<dyn Error>> {
    let hidden = capsule.manifest().hidden.as_ref();
    hidden
        .ok_or_else(|| "the capsule has no hidden fields; write [[hidden]] in its recipe and pack it".into())
}

/// The author's file of hidden fields, if it is of this capsule.
pub(super) fn secret(
    capsule: &Path,
    secret: Option<&Path>,
    hidden: &Hidden,
) -> Result<HiddenFields, Box<dyn Error>> {
    let path = secret.map_or_else(|| openings::secret_path(capsule), Path::to_path_buf);
    let fields = openings::read_secret(&path)?.ok_or_else(|| {
        format!("{} is not there: packing wrote it beside the capsule; name it with --secret", path.display())
    })?;
    if fields.commit()? != *hidden {
        return Err(format!("{} is of another packing of the capsule", path.display()).into());
    }
    Ok(fields)
}
