use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nonos_capsule::{FieldOpening, Hidden, HiddenFields, Recipient, Release};
use nonos_identity::{Digest, wire};
use nonos_node::openings::{self, OpeningFile, Openings, Shown};

use super::fields::{hidden, secret};
use super::{unsigned, write};
use crate::cli::{CliResult, DataDir, print_json};

/// Lets the node of a data directory show what the rules in the manifest allow: fields for everybody,
/// at once or after their time, and fields for some, sealed to them. Publishing a capsule does the
/// same when its .hidden file lies beside it. With --field it writes one opening to a file instead,
/// to be handed over by any means.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:  nonos capsule disclose tool.mod --data-dir alice\n           nonos capsule disclose tool.mod --field customer --to KEY --output customer.opening\n           nonos capsule disclose tool.mod --carry customer.opening --data-dir bob"
)]
pub(in crate::cli) struct Disclose {
    /// The capsule
    capsule: PathBuf,
    /// The author's hidden fields [default: the capsule's name with .hidden]
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// An opening that somebody else handed over, for the node to show; repeat for more
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret", "field"])]
    carry: Vec<PathBuf>,
    /// Write the opening of this field, by name or place
    #[arg(long, value_name = "FIELD", requires = "output")]
    field: Option<String>,
    /// Where to write it
    #[arg(long, short, value_name = "FILE", requires = "field")]
    output: Option<PathBuf>,
    /// Seal it to this X25519 key, as `nonos key open-receipt --show-key` prints it; repeat for more
    /// [default: the peers that the manifest names]
    #[arg(long, value_name = "HEX", requires = "field")]
    to: Vec<String>,
    /// Write it for everybody to read, whatever the rule
    #[arg(long, requires = "field", conflicts_with = "to")]
    plain: bool,
    #[command(flatten)]
    data_dir: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Disclose {
    pub(super) fn run(self) -> CliResult {
        let capsule = unsigned(&self.capsule)?;
        let hidden = hidden(&capsule)?;
        if let (Some(field), Some(output)) = (&self.field, &self.output) {
            let fields = secret(&self.capsule, self.secret.as_deref(), hidden)?;
            let opening = find(&fields, field)?;
            let (field, shown) = (opening.index, self.shown(opening, hidden, capsule.id())?);
            let is_sealed = matches!(shown, Shown::Sealed(_));
            write(output, &wire::to_bytes(&OpeningFile { capsule: capsule.id(), field, shown }))?;
            if self.json {
                print_json(&serde_json::json!({
                    "capsule": capsule.id(), "field": field, "sealed": is_sealed, "file": output,
                }))?;
            } else {
                let form = if is_sealed { "sealed; anybody may carry it" } else { "readable by everybody" };
                println!("field {field} written to {}, {form}", output.display());
            }
            return Ok(ExitCode::SUCCESS);
        }
        let data_dir = &self.data_dir.data_dir;
        if !nonos_node::init::exists(data_dir) {
            return Err(
                format!("{} is no node's directory; name one with --data-dir", data_dir.display()).into()
            );
        }
        let openings = if self.carry.is_empty() {
            let fields = secret(&self.capsule, self.secret.as_deref(), hidden)?;
            Openings::of(capsule.id(), hidden, &fields)?
        } else {
            let none = Openings { capsule: capsule.id(), fields: Vec::new() };
            let mut openings = Openings::load(data_dir, &capsule.id())?.unwrap_or(none);
            for path in &self.carry {
                let inserted = openings.insert(hidden, openings::read_file(path)?);
                inserted.map_err(|error| format!("{}: {error}", path.display()))?;
            }
            openings
        };
        openings.save(data_dir)?;
        let places: Vec<u8> = openings.fields.iter().map(|kept| kept.field).collect();
        if self.json {
            print_json(&serde_json::json!({ "capsule": capsule.id(), "shown": places }))?;
        } else {
            println!("capsule {}", capsule.id());
            println!("the node shows fields {places:?} by their rules, from now on or its next start");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The opening in the form that the rule or the command line asks for.
    fn shown(
        &self,
        opening: FieldOpening,
        hidden: &Hidden,
        capsule: nonos_capsule::CapsuleId,
    ) -> Result<Shown, Box<dyn Error>> {
        let to = self.to.iter().map(|key| recipient(key)).collect::<Result<Vec<_>, _>>()?;
        let named = match hidden.release(opening.index) {
            _ if self.plain => return Ok(Shown::Plain(opening)),
            _ if !to.is_empty() => to,
            Some(Release::Public) => return Ok(Shown::Plain(opening)),
            Some(Release::Peers(peers)) => peers.clone(),
            _ => {
                return Err(
                    "the rule lets nobody see the field now; say --to KEY, or --plain for everybody".into()
                );
            }
        };
        Ok(openings::seal(&opening, &capsule, &named)?)
    }
}

/// A field by its name or place.
fn find(fields: &HiddenFields, field: &str) -> Result<FieldOpening, Box<dyn Error>> {
    let named = fields.fields().iter().position(|it| it.name == field);
    let place = named.and_then(|place| u8::try_from(place).ok()).or_else(|| field.parse().ok());
    let opening = place.and_then(|place| fields.open(place));
    opening.ok_or_else(|| format!("there is no field {field:?}: nonos capsule fields lists them").into())
}

fn recipient(key: &str) -> Result<Recipient, Box<dyn Error>> {
    let key: Digest = key.parse().map_err(|error| format!("{key:?} is no X25519 key: {error}"))?;
    Ok(Recipient::from_bytes(*key.as_bytes()))
}
