use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use data_encoding::HEXLOWER;
use nonos_capsule::CapsuleId;
use nonos_identity::{NodeId, StaticSecret, WideDigest, wire};
use nonos_node::openings::{self, OpeningFile, Reading, Shown};
use nonos_node::{Client, FieldView, Request, Response, SOCKET, init};

use super::fields::hidden;
use super::{Trust, unsigned, write};
use crate::cli::{CliResult, DataDir, Passphrase, block_on, print_json};

/// Opens hidden fields. The node of the data directory, which must be running, asks the capsule's
/// publisher over a circuit, unseals what is sealed to it and checks all of it against the signed
/// manifest. With --opening it reads a file instead, without any node.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 1: nothing was opened.\n\nExamples:  nonos capsule open tool.mod --data-dir bob\n           nonos capsule open 5d1f... 2 --from NODE --data-dir bob\n           nonos capsule open tool.mod --opening customer.opening --network lab --data-dir bob"
)]
pub(in crate::cli) struct Open {
    /// The capsule: its id, or its .mod
    capsule: String,
    /// Places of the fields [default: all that somebody but the author may see]
    field: Vec<u8>,
    /// The node to ask [default: the capsule's publisher]
    #[arg(long, value_name = "NODE", conflicts_with = "opening")]
    from: Option<NodeId>,
    /// Write what was shown into this directory, also what is sealed to others
    #[arg(long, value_name = "DIR", conflicts_with = "opening")]
    output: Option<PathBuf>,
    /// Read this file, and ask nobody
    #[arg(long, value_name = "FILE", conflicts_with = "field")]
    opening: Option<PathBuf>,
    /// Generation of the X25519 key that the file was sealed to
    #[arg(long, default_value_t = 0, requires = "opening")]
    generation: u32,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Open {
    pub(super) fn run(self) -> CliResult {
        match &self.opening {
            Some(path) => self.read(path),
            None => self.ask(),
        }
    }

    fn ask(&self) -> CliResult {
        let capsule = self.id()?;
        let request = Request::Fields { capsule, fields: self.field.clone(), from: self.from };
        let socket = self.data_dir.data_dir.join(SOCKET);
        let response = block_on(async { Client::connect(&socket).await?.ask(&request).await })??;
        let (from, fields) = match response {
            Response::Fields { from, fields, .. } => (from, fields),
            Response::Error { message } => return Err(message.into()),
            _ => return Err("the node answered with something else than fields".into()),
        };
        if let Some(directory) = &self.output {
            std::fs::create_dir_all(directory)?;
            for view in &fields {
                if let FieldView::Opened { field, opening, .. } | FieldView::Sealed { field, opening } = view
                {
                    let opening = HEXLOWER.decode(opening.as_bytes())?;
                    write(&directory.join(format!("{field}.opening")), &opening)?;
                }
            }
        }
        let opened = fields.iter().any(|view| matches!(view, FieldView::Opened { .. }));
        if self.json {
            print_json(&serde_json::json!({ "capsule": capsule, "from": from, "fields": fields }))?;
        } else {
            println!("asked    {from}");
            fields.iter().for_each(print);
        }
        Ok(if opened { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn id(&self) -> Result<WideDigest, Box<dyn Error>> {
        if let Ok(id) = self.capsule.parse::<CapsuleId>() {
            return Ok(*id.as_digest());
        }
        Ok(*unsigned(Path::new(&self.capsule))?.id().as_digest())
    }

    fn read(&self, path: &Path) -> CliResult {
        let capsule = self.trust.capsule(Path::new(&self.capsule))?;
        let hidden = hidden(&capsule)?;
        let OpeningFile { capsule: of, field, shown } = openings::read_file(path)?;
        if of != capsule.id() {
            return Err(format!("{} is of capsule {of}", path.display()).into());
        }
        let secret = match shown {
            Shown::Sealed(_) => {
                let identity = init::identity(&self.data_dir.data_dir, &self.passphrase.read()?)?;
                identity.static_secret(self.generation)
            }
            // Nothing is sealed, so no key is needed.
            _ => StaticSecret::from_bytes(&[0; 32]),
        };
        let reading = openings::open(&shown, &of, hidden, field, &secret);
        let opening = HEXLOWER.encode(&wire::to_bytes(&OpeningFile { capsule: of, field, shown }));
        let view = match reading.map_err(|error| format!("{}: {error}", path.display()))? {
            Reading::Opened(it) => FieldView::Opened { field, name: it.name, value: it.value, opening },
            _ => FieldView::Sealed { field, opening },
        };
        if self.json {
            print_json(&serde_json::json!({ "capsule": of, "fields": [view] }))?;
        } else {
            print(&view);
        }
        let is_open = matches!(view, FieldView::Opened { .. });
        Ok(if is_open { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn print(view: &FieldView) {
    match view {
        FieldView::Opened { field, name, value, .. } => println!("field {field:<3}{name} = {value:?}"),
        FieldView::Sealed { field, .. } => println!("field {field:<3}sealed to others"),
        FieldView::Withheld { field } => println!("field {field:<3}not shown: not there, or not yet"),
        _ => {}
    }
}
