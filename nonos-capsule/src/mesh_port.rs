//! How a running capsule talks to the mesh, and how that is recorded.

use core::fmt;
use std::collections::VecDeque;

use minicbor::{Decode, Encode};
use serde::Serialize;

/// The mesh as one run sees it: messages to named services, and messages that come in.
///
/// The runtime calls it on the thread of the run and between instructions of the guest, so a call
/// that waits holds up that run and nothing else; the wall-clock limit of the policy goes on. The
/// services named by the policy, its bytes and its messages are checked before a port is called. What
/// a port answers is recorded in the execution, and a replay gets the same answers without a port.
pub trait MeshPort: Send {
    /// Hands a message to a service.
    ///
    /// # Errors
    /// [`PortError`]; the guest sees it and may go on.
    fn send(&mut self, service: &str, message: &[u8]) -> Result<(), PortError>;

    /// The next message for this run; `None` if there is none within the port's own patience.
    /// A message longer than `max_bytes` must be dropped by the port.
    ///
    /// # Errors
    /// [`PortError`]; the guest sees it and may go on.
    fn receive(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>, PortError>;
}

/// Why a port did not do what the guest asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// There is no mesh here. The guest sees `ENOTSUP`.
    #[error("there is no mesh here")]
    Unsupported,
    /// The service cannot be reached or takes no more. The guest sees `EIO`.
    #[error("the mesh did not take it")]
    Refused,
}

/// The port of a run outside of any mesh.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMesh;

impl MeshPort for NoMesh {
    fn send(&mut self, _: &str, _: &[u8]) -> Result<(), PortError> {
        Err(PortError::Unsupported)
    }

    fn receive(&mut self, _: usize) -> Result<Option<Vec<u8>>, PortError> {
        Err(PortError::Unsupported)
    }
}

/// One answer of a port, in the order of the calls.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Inbound {
    /// A message to a service was taken.
    #[n(0)]
    Sent,
    /// A message came in.
    #[n(1)]
    Message(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// No message was there.
    #[n(2)]
    Nothing,
    /// The port refused.
    #[n(3)]
    Refused,
    /// There is no mesh.
    #[n(4)]
    Unsupported,
}

impl Inbound {
    pub(crate) fn of_send(answer: Result<(), PortError>) -> Self {
        match answer {
            Ok(()) => Self::Sent,
            Err(PortError::Refused) => Self::Refused,
            Err(PortError::Unsupported) => Self::Unsupported,
        }
    }

    pub(crate) fn of_receive(answer: Result<Option<Vec<u8>>, PortError>) -> Self {
        match answer {
            Ok(Some(message)) => Self::Message(message),
            Ok(None) => Self::Nothing,
            Err(PortError::Refused) => Self::Refused,
            Err(PortError::Unsupported) => Self::Unsupported,
        }
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => write!(f, "Message({} bytes)", message.len()),
            Self::Sent => f.write_str("Sent"),
            Self::Nothing => f.write_str("Nothing"),
            Self::Refused => f.write_str("Refused"),
            Self::Unsupported => f.write_str("Unsupported"),
        }
    }
}

/// Answers as an execution recorded them; a guest that asks otherwise than it did then gets
/// refusals, and its run diverges.
#[derive(Debug)]
pub(crate) struct Recorded(VecDeque<Inbound>);

impl Recorded {
    pub(crate) fn new(inbound: &[Inbound]) -> Self {
        Self(inbound.iter().cloned().collect())
    }
}

impl MeshPort for Recorded {
    fn send(&mut self, _: &str, _: &[u8]) -> Result<(), PortError> {
        match self.0.pop_front() {
            Some(Inbound::Sent) => Ok(()),
            Some(Inbound::Unsupported) => Err(PortError::Unsupported),
            _ => Err(PortError::Refused),
        }
    }

    fn receive(&mut self, _: usize) -> Result<Option<Vec<u8>>, PortError> {
        match self.0.pop_front() {
            Some(Inbound::Message(message)) => Ok(Some(message)),
            Some(Inbound::Nothing) => Ok(None),
            Some(Inbound::Unsupported) => Err(PortError::Unsupported),
            _ => Err(PortError::Refused),
        }
    }
}
