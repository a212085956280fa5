//! The transport stack: whatever carries bytes, then Noise under the network's prologue, then
//! Yamux.

use std::time::Duration;

use libp2p::identity::{Keypair, PeerId};
use libp2p::{noise, yamux};
use libp2p_core::Transport;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::Boxed;
use libp2p_core::upgrade::Version;
use nonos_identity::{Digest, NetworkId};

use super::handle::DriverError;
use crate::domains;

/// Time for TCP, Noise and Yamux together; stops half-open connections.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Authenticates and multiplexes `raw`. The prologue enters the handshake hash, so that nodes of
/// two networks never complete one (Noise, section 6).
pub(super) fn secure<T>(
    raw: T,
    key: &Keypair,
    network: &NetworkId,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, DriverError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let prologue = Digest::of(domains::PROLOGUE, &[network.as_bytes()]);
    let noise = noise::Config::new(key).map_err(|e| DriverError::Transport(e.to_string()))?;
    let noise = noise.with_prologue(prologue.as_bytes().to_vec());
    let stack = raw.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux::Config::default());
    Ok(stack.timeout(HANDSHAKE).boxed())
}
