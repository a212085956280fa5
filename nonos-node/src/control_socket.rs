//! The control interface on a Unix socket of the data directory.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::control::{LINE_BYTES_MAX, Request, Response};
use crate::node::Node;

/// Why a control request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No node listens on the socket, or it went away.
    #[error("no node answers on the control socket; is `nonos run` running on this data directory?")]
    Io(#[from] io::Error),
    /// The answer is not of this version's control interface.
    #[error("the node speaks another version of the control interface")]
    Protocol(#[from] serde_json::Error),
}

/// A connection to a running node.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket of a data directory.
    ///
    /// # Errors
    /// [`ClientError::Io`] if no node listens there.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket).await?) })
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// [`ClientError`] if the node goes away or answers something else.
    pub async fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.write_all(&line).await?;
        let line = read_line(&mut self.stream)
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)
            .map_err(io::Error::from)?;
        Ok(serde_json::from_slice(&line)?)
    }
}

/// Serves the control socket until the node stops. Only the owner of the data directory can
/// reach it: the directory has mode 0700.
pub(crate) async fn serve(node: Node, listener: UnixListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(node, BufReader::new(stream)).await {
                tracing::debug!(%error, "control connection ended");
            }
        });
    }
}

async fn converse(node: Node, mut stream: BufReader<UnixStream>) -> io::Result<()> {
    while let Some(line) = read_line(&mut stream).await? {
        let response = match serde_json::from_slice(&line) {
            Ok(request) => node.handle(request).await,
            Err(error) => Response::Error { message: format!("not a request: {error}") },
        };
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
    }
    Ok(())
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = LINE_BYTES_MAX as u64;
    stream.take(limit).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() < LINE_BYTES_MAX => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "control line exceeds the limit")),
    }
}
