use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use nonos_node::{Client, Request, Response, SOCKET};

use super::{CliResult, DataDir, block_on, print_json};

const SETTINGS: &str = r#"A service is offered by config.toml, and is at its address a few seconds after the node's start:

  [[onion_services]]
  name = "blog"
  forward = [{ port = 80, to = "127.0.0.1:8080" }]
  clients = []      # keys by `nonos onion key`; if there are none, whoever knows the address may visit

  [roles]
  relay = false     # or visitors can find out which relay the service runs on"#;

/// Shows the onion services of a running node, and visits those of others.
#[derive(Debug, Args)]
#[command(after_help = SETTINGS)]
pub(super) struct Onion {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the node's services
    List,
    /// Print the key by which a service may authorise this node; its operator writes it into `clients`
    Key {
        /// The service's address
        address: String,
    },
    /// Visit a service and say how long it took to get there
    Reach {
        /// Address and port, as in ADDRESS:80
        target: String,
    },
    /// Forward a local TCP port to a service, until the node stops
    Forward {
        /// Address and port, as in ADDRESS:80
        target: String,
        /// Where to listen; port 0 lets the system choose
        #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
        listen: SocketAddr,
    },
}

impl Onion {
    pub(super) fn run(self) -> CliResult {
        let request = match self.verb {
            None | Some(Verb::List) => Request::Services { of: None },
            Some(Verb::Key { address }) => Request::Services { of: Some(address) },
            Some(Verb::Reach { target }) => Request::Reach { target },
            Some(Verb::Forward { target, listen }) => Request::Forward { target, listen },
        };
        let socket = self.data_dir.data_dir.join(SOCKET);
        let answer = block_on(async { Client::connect(&socket).await?.ask(&request).await })??;
        if let Response::Error { message } = answer {
            return Err(message.into());
        }
        if self.json {
            print_json(&answer)?;
            return Ok(ExitCode::SUCCESS);
        }
        match answer {
            Response::Services { client_key: Some(key), .. } => println!("{key}"),
            Response::Services { services, .. } if services.is_empty() => {
                println!("no service is offered; see `nonos onion --help`");
            }
            Response::Services { services, .. } => {
                for service in services {
                    let state = match service.publications {
                        0 => "not published yet".to_owned(),
                        _ => format!("{} introduction points", service.points),
                    };
                    println!("{}  {}  {state}", service.name, service.address);
                }
            }
            Response::Reached { elapsed_ms } => println!("reached in {elapsed_ms} ms"),
            Response::Listening { listen } => println!("{listen}"),
            _ => return Err("the node answered with something else than asked".into()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
