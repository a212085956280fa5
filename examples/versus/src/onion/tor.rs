//! The private Tor network of `nonos-onion/tests/anyone/network.py`, used as its clients do: by
//! SOCKS5 and by the control port.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::Deserialize;

use super::node::Fetched;
use super::processes::cpu_of;
use crate::Failure;
use crate::report::{now, wall_seconds};

const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nonos-onion/tests/anyone/network.py");
/// Longest wait for a byte; a transfer that stalls so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const CHUNK_BYTES: usize = 1 << 16;

/// What the starter says of a daemon.
#[derive(Debug, Deserialize)]
struct Daemon {
    pid: u32,
    control: u16,
    cookie: PathBuf,
    socks: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct Service {
    hostname: String,
}

#[derive(Debug, Deserialize)]
struct Started {
    version: String,
    nodes: BTreeMap<String, Daemon>,
    service: Service,
}

/// How relays take turns.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scheduler {
    /// KIST, every 10 ms.
    Default,
    Vanilla,
}

/// What a stream leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Through an exit.
    Exit,
    /// To the onion service.
    Service,
}

/// The network, which ends with this value.
pub(super) struct Network {
    child: Child,
    started: Started,
    target: u16,
}

impl Network {
    /// Starts the network with this daemon, and a target for its streams.
    pub(super) fn start(daemon: &Path) -> Result<Self, Failure> {
        let target = serve()?;
        let mut command = Command::new("python3");
        command.arg(STARTER).arg("--daemon").arg(daemon).args(["--serve", &target.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the starter has an output")?).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(started) => Ok(Self { child, started, target }),
            Err(error) => {
                end(&mut child);
                Err(format!("the network did not come up: {error}").into())
            }
        }
    }

    /// As the daemon tells it.
    pub(super) fn version(&self) -> &str {
        &self.started.version
    }

    /// Processor time of all daemons so far, in seconds.
    pub(super) fn cpu(&self) -> Result<f64, Failure> {
        let pids: Vec<u32> = self.started.nodes.values().map(|daemon| daemon.pid).collect();
        cpu_of(&pids)
    }

    /// Sets the scheduler of all daemons.
    pub(super) fn schedule(&self, scheduler: Scheduler) -> Result<(), Failure> {
        let command = match scheduler {
            Scheduler::Default => "RESETCONF Schedulers",
            Scheduler::Vanilla => "SETCONF Schedulers=Vanilla",
        };
        self.started.nodes.values().try_for_each(|daemon| Control::new(daemon)?.ask(command).map(drop))
    }

    fn client(&self) -> Result<&Daemon, Failure> {
        Ok(self.started.nodes.get("client").ok_or("the network has a client")?)
    }

    /// Fetches bytes over a new stream of the client's.
    pub(super) fn fetch(&self, way: Way, bytes: usize) -> Result<Fetched, Failure> {
        let host = match way {
            Way::Exit => "127.0.0.1",
            Way::Service => &self.started.service.hostname,
        };
        let socks = self.client()?.socks.ok_or("the client takes streams")?;
        let started = now();
        let mut stream = connect(socks, host, self.target)?;
        stream.write_all(&(bytes as u64).to_be_bytes())?;
        let (mut left, mut first_byte) = (bytes, None);
        let mut buffer = vec![0; CHUNK_BYTES];
        while left > 0 {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err("the stream ended early".into());
            }
            first_byte.get_or_insert(started.elapsed().as_secs_f64());
            left = left.saturating_sub(count);
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(Fetched { first_byte: first_byte.unwrap_or(seconds), seconds, hundredths: Vec::new() })
    }

    /// Builds circuits of three relays, one after another; yields the seconds of each.
    pub(super) fn build(&self, count: usize) -> Result<Vec<f64>, Failure> {
        let mut control = Control::new(self.client()?)?;
        control.ask("SETEVENTS CIRC")?;
        let mut build = || {
            let (done, seconds) = wall_seconds(|| {
                let reply = control.ask("EXTENDCIRCUIT 0")?;
                let circuit = reply.strip_prefix("EXTENDED ").ok_or("no circuit was begun")?.to_owned();
                control.built(&circuit)?;
                Ok::<_, Failure>(circuit)
            });
            control.ask(&format!("CLOSECIRCUIT {}", done?))?;
            Ok(seconds)
        };
        (0..count).map(|_| build()).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends the starter, which ends its daemons first.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    let _ = child.wait();
}

/// A TCP server that sends as many bytes as the first eight ask for, on threads that end with the
/// process. Yields its port.
fn serve() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes ends its own stream.
            thread::spawn(move || answer(stream));
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted)?;
    let mut left = usize::try_from(u64::from_be_bytes(wanted)).unwrap_or(usize::MAX);
    let chunk = vec![0x5a; CHUNK_BYTES];
    while left > 0 {
        let bytes = chunk.get(..left.min(CHUNK_BYTES)).unwrap_or(&chunk);
        stream.write_all(bytes)?;
        left -= bytes.len();
    }
    Ok(())
}

/// A stream by SOCKS5 without authentication (RFC 1928).
fn connect(socks: u16, host: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, socks))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    let mut request = vec![5, 1, 0, 3, u8::try_from(host.len())?];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    match reply {
        [5, 0, ..] => Ok(stream),
        [_, code, ..] => Err(format!("SOCKS error {code} for {host}").into()),
    }
}

/// A control connection, authenticated by cookie.
struct Control(BufReader<TcpStream>);

impl Control {
    fn new(daemon: &Daemon) -> Result<Self, Failure> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, daemon.control))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut control = Self(BufReader::new(stream));
        control.ask(&format!("AUTHENTICATE {}", HEXLOWER.encode(&fs::read(&daemon.cookie)?)))?;
        Ok(control)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// The text of a reply of one line; events before it are passed over.
    fn ask(&mut self, command: &str) -> Result<String, Failure> {
        write!(self.0.get_mut(), "{command}\r\n")?;
        loop {
            let line = self.line()?;
            match line.split_once(' ') {
                Some(("250", text)) => return Ok(text.to_owned()),
                Some(("650", _)) => {}
                _ => return Err(format!("{command}: {line}").into()),
            }
        }
    }

    /// Waits until a circuit is built.
    fn built(&mut self, circuit: &str) -> Result<(), Failure> {
        loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            match (words.next(), words.nth(1), words.next()) {
                (Some("650"), Some(id), Some("BUILT")) if id == circuit => return Ok(()),
                (Some("650"), Some(id), Some("FAILED" | "CLOSED")) if id == circuit => {
                    return Err(format!("tor's circuit was not built: {line}").into());
                }
                (Some("650"), ..) => {}
                _ => return Err(format!("control connection: {line}").into()),
            }
        }
    }
}
