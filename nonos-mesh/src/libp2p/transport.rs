//! The transport stack: whatever carries bytes, then Noise under the network's prologue, then
//! Yamux.

use std::time::Duration;

use futures::future::{BoxFuture, Either};
use futures::{AsyncRead, AsyncWrite, FutureExt as _, TryFutureExt as _};
use libp2p::identity::{Keypair, PeerId};
use libp2p::{noise as stock, yamux};
use libp2p_core::Transport;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::Boxed;
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version};
use nonos_identity::{Digest, NetworkId, PublicKey, SigningKey};

use super::handle::DriverError;
use super::noise::{self, HandshakeError, Keys};
use super::sealed::Sealed;
use crate::domains;

/// Time for TCP, Noise and Yamux together; stops half-open connections.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Authenticates and multiplexes `raw`.
pub(super) fn secure<T>(
    raw: T,
    key: &Keypair,
    identity: &SigningKey,
    network: &NetworkId,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, DriverError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let security = Security::new(key, identity, network, noise::has_aes())?;
    Ok(stack(raw, security))
}

fn stack<T>(raw: T, security: Security) -> Boxed<(PeerId, StreamMuxerBox)>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let secured = raw.upgrade(Version::V1Lazy).authenticate(security);
    secured.multiplex(yamux::Config::default()).timeout(HANDSHAKE).boxed()
}

/// Noise with the cipher that both ends are fast at: AES-GCM between two machines with AES instructions,
/// ChaCha20-Poly1305, which is libp2p's, in all other cases. Either gives all that a link promises, so whoever
/// interferes with the choice, which is made in the clear, gains nothing but our time. The prologue enters
/// the handshake hash, so that nodes of two networks never complete one (Noise, section 6).
#[derive(Clone)]
struct Security {
    aes: Option<Keys>,
    stock: stock::Config,
}

impl Security {
    fn new(
        key: &Keypair,
        identity: &SigningKey,
        network: &NetworkId,
        has_aes: bool,
    ) -> Result<Self, DriverError> {
        // Peers refuse other keys; better to hear it here.
        PublicKey::admit(identity.public().as_bytes()).map_err(|e| DriverError::Transport(e.to_string()))?;
        let prologue = Digest::of(domains::PROLOGUE, &[network.as_bytes()]);
        let aes = has_aes.then(|| Keys::new(identity, *network, *prologue.as_bytes())).transpose();
        let aes = aes.map_err(|e| DriverError::Transport(e.to_string()))?;
        let stock = stock::Config::new(key).map_err(|e| DriverError::Transport(e.to_string()))?;
        Ok(Self { aes, stock: stock.with_prologue(prologue.as_bytes().to_vec()) })
    }
}

/// Why a connection was not authenticated.
#[derive(Debug, thiserror::Error)]
enum SecurityError {
    #[error(transparent)]
    Aes(#[from] HandshakeError),
    #[error(transparent)]
    Stock(#[from] stock::Error),
}

type Secured<T> = (PeerId, Either<Sealed<T>, stock::Output<T>>);

/// A handshake whose stream is one of the two kinds.
fn secured<T, S, E>(
    handshake: impl Future<Output = Result<(PeerId, S), E>> + Send + 'static,
    kind: fn(S) -> Either<Sealed<T>, stock::Output<T>>,
) -> BoxFuture<'static, Result<Secured<T>, SecurityError>>
where
    T: 'static,
    S: 'static,
    E: Into<SecurityError> + 'static,
{
    handshake.map_ok(move |(peer, io)| (peer, kind(io))).err_into().boxed()
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = std::iter::Chain<std::option::IntoIter<Self::Info>, std::iter::Once<Self::Info>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.aes.as_ref().map(|_| noise::PROTOCOL).into_iter().chain(self.stock.protocol_info())
    }
}

impl<T> InboundConnectionUpgrade<T> for Security
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<T>;
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Secured<T>, SecurityError>>;

    fn upgrade_inbound(self, socket: T, info: Self::Info) -> Self::Future {
        match self.aes {
            Some(keys) if info == noise::PROTOCOL => secured(keys.respond(socket), Either::Left),
            _ => secured(self.stock.upgrade_inbound(socket, info), Either::Right),
        }
    }
}

impl<T> OutboundConnectionUpgrade<T> for Security
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<T>;
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Secured<T>, SecurityError>>;

    fn upgrade_outbound(self, socket: T, info: Self::Info) -> Self::Future {
        match self.aes {
            Some(keys) if info == noise::PROTOCOL => secured(keys.initiate(socket), Either::Left),
            _ => secured(self.stock.upgrade_outbound(socket, info), Either::Right),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;

    use libp2p_core::Endpoint;
    use libp2p_core::muxing::StreamMuxerExt as _;
    use libp2p_core::transport::{DialOpts, ListenerId, MemoryTransport, PortUse, TransportEvent};

    use super::*;

    fn key(seed: u8) -> Keypair {
        Keypair::ed25519_from_bytes([seed; 32]).expect("a seed")
    }

    fn security(seed: u8, network: &str, has_aes: bool) -> Security {
        let (identity, network) = (SigningKey::from_seed(&[seed; 32]), NetworkId::from_name(network));
        Security::new(&key(seed), &identity, &network, has_aes).expect("keys")
    }

    /// Who dialled, if the two ends come to an agreement.
    async fn connect(dialler: Security, listener: Security) -> Option<PeerId> {
        let mut listening = stack(MemoryTransport::default(), listener);
        listening.listen_on(ListenerId::next(), "/memory/0".parse().expect("an address")).expect("free");
        let mut dialling = stack(MemoryTransport::default(), dialler);
        let mut next = async || poll_fn(|cx| Pin::new(&mut listening).poll(cx)).await;
        let TransportEvent::NewAddress { listen_addr, .. } = next().await else { panic!("it listens") };
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let dial = dialling.dial(listen_addr, options).expect("a memory address");
        let dial = tokio::spawn(async move {
            let (_, mut muxer) = dial.await.ok()?;
            // What was negotiated lazily leaves as the connection is used.
            poll_fn(|cx| muxer.poll_unpin(cx)).await.ok()
        });
        let TransportEvent::Incoming { upgrade, .. } = next().await else { panic!("it is dialled") };
        let dialler = upgrade.await.ok().map(|(peer, _)| peer);
        dial.abort();
        dialler
    }

    #[test]
    fn a_machine_without_aes_offers_libp2ps_noise_alone() {
        let offers = |has_aes| security(1, "home", has_aes).protocol_info().collect::<Vec<_>>();
        assert_eq!(offers(true), ["/noise-aesgcm/1", "/noise"]);
        assert_eq!(offers(false), ["/noise"]);
    }

    #[tokio::test]
    async fn any_two_machines_of_a_network_connect() {
        for ours in [true, false] {
            for theirs in [true, false] {
                let peer = connect(security(1, "home", ours), security(2, "home", theirs)).await;
                assert_eq!(peer, Some(key(1).public().to_peer_id()), "{ours} {theirs}");
                assert_eq!(connect(security(1, "home", ours), security(2, "away", theirs)).await, None);
            }
        }
    }
}
