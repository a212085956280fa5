//! The Noise handshake of links between machines with AES instructions, under which a byte costs a
//! third of what it does under ChaCha20-Poly1305.

use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::identity::{PeerId, ed25519};
use nonos_identity::{AdmitError, NetworkId, PublicKey, Signature, SignatureError, SigningKey};
use snow::HandshakeState;
use zeroize::Zeroizing;

use super::sealed::Sealed;
use crate::domains;

/// What both ends call it in the negotiation before it. It passes in the clear, so it names no network.
pub(super) const PROTOCOL: &str = "/noise-aesgcm/1";
/// Noise, section 8. The name enters the handshake hash.
const PATTERN: &str = "Noise_XX_25519_AESGCM_SHA256";

/// A public key of X25519, and a tag of AES-GCM.
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
/// Who an end is: its Ed25519 key, and the signature by it over the end's static key.
const IDENTITY_BYTES: usize = 32 + 64;
/// The three messages of the pattern: `e`; `e, ee, s, es` with an identity; `s, se` with an identity. All
/// ends send these lengths, so that no peer chooses how much is read.
const FIRST_BYTES: usize = KEY_BYTES;
const SECOND_BYTES: usize = KEY_BYTES + THIRD_BYTES;
const THIRD_BYTES: usize = KEY_BYTES + TAG_BYTES + IDENTITY_BYTES + TAG_BYTES;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Of another network, altered, or no Noise at all.
    #[error(transparent)]
    Noise(#[from] snow::Error),
    #[error("a message of the wrong length")]
    Length,
    #[error("identity key: {0}")]
    Key(#[from] AdmitError),
    #[error("static key: {0}")]
    Signature(#[from] SignatureError),
    #[error("identity key: {0}")]
    Peer(#[from] libp2p::identity::DecodingError),
}

/// One end's keys; cheap to clone.
#[derive(Clone)]
pub(super) struct Keys(Arc<Inner>);

struct Inner {
    network: NetworkId,
    prologue: [u8; 32],
    /// The static key, which lives as long as the node runs.
    secret: Zeroizing<Vec<u8>>,
    identity: [u8; IDENTITY_BYTES],
}

impl Keys {
    /// A fresh static key under `identity`.
    pub(super) fn new(
        identity: &SigningKey,
        network: NetworkId,
        prologue: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        let pair = snow::Builder::new(PATTERN.parse()?).generate_keypair()?;
        let secret = Zeroizing::new(pair.private);
        let signature = identity.sign(domains::STATIC_KEY, &network, &pair.public);
        let mut inner = Inner { network, prologue, secret, identity: [0; IDENTITY_BYTES] };
        let public = identity.public();
        let parts = public.as_bytes().iter().chain(signature.as_bytes());
        inner.identity.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Ok(Self(Arc::new(inner)))
    }

    /// The dialler's part.
    pub(super) async fn initiate<T>(self, mut io: T) -> Result<(PeerId, Sealed<T>), HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut state = self.builder()?.build_initiator()?;
        send::<FIRST_BYTES>(&mut state, &mut io, &[]).await?;
        let identity = receive::<SECOND_BYTES>(&mut state, &mut io).await?;
        let peer = self.verify(&state, &identity)?;
        send::<THIRD_BYTES>(&mut state, &mut io, &self.0.identity).await?;
        Ok((peer, Sealed::new(io, state.into_transport_mode()?)))
    }

    /// The listener's part.
    pub(super) async fn respond<T>(self, mut io: T) -> Result<(PeerId, Sealed<T>), HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut state = self.builder()?.build_responder()?;
        receive::<FIRST_BYTES>(&mut state, &mut io).await?;
        send::<SECOND_BYTES>(&mut state, &mut io, &self.0.identity).await?;
        let identity = receive::<THIRD_BYTES>(&mut state, &mut io).await?;
        let peer = self.verify(&state, &identity)?;
        Ok((peer, Sealed::new(io, state.into_transport_mode()?)))
    }

    fn builder(&self) -> Result<snow::Builder<'_>, HandshakeError> {
        let builder = snow::Builder::new(PATTERN.parse()?);
        Ok(builder.prologue(&self.0.prologue)?.local_private_key(&self.0.secret)?)
    }

    /// Whose the static key of the other end is.
    fn verify(&self, state: &HandshakeState, identity: &[u8]) -> Result<PeerId, HandshakeError> {
        let (key, rest) = identity.split_first_chunk().ok_or(HandshakeError::Length)?;
        let signature = Signature::from_bytes(rest.try_into().map_err(|_| HandshakeError::Length)?);
        let static_key = state.get_remote_static().ok_or(HandshakeError::Length)?;
        PublicKey::admit(key)?.verify(domains::STATIC_KEY, &self.0.network, static_key, &signature)?;
        let key = libp2p::identity::PublicKey::from(ed25519::PublicKey::try_from_bytes(key)?);
        Ok(key.to_peer_id())
    }
}

/// Sends a message of `BYTES`.
async fn send<const BYTES: usize>(
    state: &mut HandshakeState,
    io: &mut (impl AsyncWrite + Unpin),
    payload: &[u8],
) -> Result<(), HandshakeError> {
    // snow wants room for a tag also where there is none.
    let mut message = [0; SECOND_BYTES + TAG_BYTES];
    let length = state.write_message(payload, &mut message)?;
    let message = message.get(..BYTES).filter(|_| length == BYTES).ok_or(HandshakeError::Length)?;
    io.write_all(message).await?;
    Ok(io.flush().await?)
}

/// Receives a message of `BYTES`; yields its payload.
async fn receive<const BYTES: usize>(
    state: &mut HandshakeState,
    io: &mut (impl AsyncRead + Unpin),
) -> Result<Vec<u8>, HandshakeError> {
    let mut message = [0; BYTES];
    io.read_exact(&mut message).await?;
    let mut payload = vec![0; BYTES];
    let length = state.read_message(&message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}

/// Whether this processor has the instructions without which AES-GCM is the slower cipher.
pub(super) fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    /// Room of a pipe in bytes: a handshake, or some frames.
    const PIPE_BYTES: usize = 1 << 20;

    type Pipe = Compat<tokio::io::DuplexStream>;

    pub(in super::super) fn pipe() -> (Pipe, Pipe) {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        (near.compat(), far.compat())
    }

    pub(in super::super) fn keys(seed: u8, network: &str) -> Keys {
        let network = NetworkId::from_name(network);
        Keys::new(&SigningKey::from_seed(&[seed; 32]), network, *network.as_bytes()).expect("a key")
    }

    fn peer(seed: u8) -> PeerId {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).expect("a seed");
        key.public().to_peer_id()
    }

    /// Two ends of a finished handshake.
    pub(in super::super) async fn sealed() -> (Sealed<Pipe>, Sealed<Pipe>) {
        let (near, far) = pipe();
        let ends = futures::join!(keys(1, "home").initiate(near), keys(2, "home").respond(far));
        (ends.0.expect("no fault").1, ends.1.expect("no fault").1)
    }

    /// Why the handshake of two ends fails, the listener's side and the dialler's.
    async fn failure(dialler: Keys, listener: Keys) -> (Option<HandshakeError>, Option<HandshakeError>) {
        let (near, far) = pipe();
        let ends = futures::join!(listener.respond(far), dialler.initiate(near));
        (ends.0.err(), ends.1.err())
    }

    #[tokio::test]
    async fn each_end_learns_the_other() {
        let (near, far) = pipe();
        let ends = futures::join!(keys(1, "home").initiate(near), keys(2, "home").respond(far));
        let (Ok((listener, mut near)), Ok((dialler, mut far))) = ends else { panic!("no fault") };
        assert_eq!((listener, dialler), (peer(2), peer(1)));
        let mut bytes = [0; 4];
        near.write_all(b"ping").await.expect("room");
        near.flush().await.expect("room");
        far.read_exact(&mut bytes).await.expect("sent");
        assert_eq!(&bytes, b"ping");
        far.write_all(b"pong").await.expect("room");
        far.flush().await.expect("room");
        near.read_exact(&mut bytes).await.expect("sent");
        assert_eq!(&bytes, b"pong");
    }

    #[tokio::test]
    async fn networks_do_not_mix() {
        let (_, dialler) = failure(keys(1, "home"), keys(2, "away")).await;
        assert!(matches!(dialler, Some(HandshakeError::Noise(snow::Error::Decrypt))), "{dialler:?}");
        // The same prologue, but a signature of another network.
        let mut other = keys(2, "away");
        Arc::get_mut(&mut other.0).expect("one owner").prologue = keys(1, "home").0.prologue;
        let (_, dialler) = failure(keys(1, "home"), other).await;
        assert!(matches!(dialler, Some(HandshakeError::Signature(_))), "{dialler:?}");
    }

    #[tokio::test]
    async fn an_identity_is_proven() {
        // The key of another, with whose secret this end cannot sign.
        let mut liar = keys(1, "home");
        let stolen = keys(3, "home");
        let inner = Arc::get_mut(&mut liar.0).expect("one owner");
        inner.identity[..32].copy_from_slice(&stolen.0.identity[..32]);
        let (listener, _) = failure(liar.clone(), keys(2, "home")).await;
        assert!(matches!(listener, Some(HandshakeError::Signature(_))), "{listener:?}");
        let (_, dialler) = failure(keys(2, "home"), liar).await;
        assert!(matches!(dialler, Some(HandshakeError::Signature(_))), "{dialler:?}");
        // The key and the signature of another, whose static key this end does not have.
        let mut thief = keys(1, "home");
        Arc::get_mut(&mut thief.0).expect("one owner").identity = stolen.0.identity;
        let (listener, _) = failure(thief, keys(2, "home")).await;
        assert!(matches!(listener, Some(HandshakeError::Signature(_))), "{listener:?}");
        // The identity element of the curve, for which anybody can sign.
        let mut nobody = keys(1, "home");
        let inner = Arc::get_mut(&mut nobody.0).expect("one owner");
        inner.identity = [0; IDENTITY_BYTES];
        inner.identity[0] = 1;
        inner.identity[32] = 1;
        let (listener, _) = failure(nobody, keys(2, "home")).await;
        assert!(matches!(listener, Some(HandshakeError::Key(AdmitError::Torsion))), "{listener:?}");
    }

    /// Passes a handshake on, with one bit of one message changed. Yields whether either end finished with
    /// the other and could be spoken with.
    async fn altered(message: usize, at: usize, bit: u8) -> bool {
        let ((near, mut left), (mut right, far)) = (pipe(), pipe());
        let relay = async {
            for (number, length) in [FIRST_BYTES, SECOND_BYTES, THIRD_BYTES].into_iter().enumerate() {
                let mut bytes = vec![0; length];
                let (from, to) = if number == 1 { (&mut right, &mut left) } else { (&mut left, &mut right) };
                from.read_exact(&mut bytes).await?;
                if number == message {
                    bytes[at % length] ^= 1 << bit;
                }
                to.write_all(&bytes).await?;
                to.flush().await?;
            }
            // Ends the pipes, on which an end may wait.
            drop((left, right));
            Ok::<(), std::io::Error>(())
        };
        let listener = async { keys(2, "home").respond(far).await.is_ok() };
        let dialler = async { keys(1, "home").initiate(near).await.is_ok() };
        let (dialler, listener, _) = futures::join!(dialler, listener, relay);
        // The last message leaves the dialler before anybody can object to it.
        listener || (message < 2 && dialler)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn an_altered_handshake_fails(message in 0usize..3, at: usize, bit in 0u8..8) {
            // The high bit of a coordinate is not read (RFC 7748, section 5), but hashed.
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            prop_assert!(!runtime.block_on(altered(message, at, bit)));
        }

        #[test]
        fn any_bytes_are_no_handshake(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                for dials in [true, false] {
                    let (near, mut far) = pipe();
                    far.write_all(&bytes).await.expect("room");
                    far.close().await.expect("room");
                    let end = keys(1, "home");
                    let failed = if dials { end.initiate(near).await.is_err() } else { end.respond(near).await.is_err() };
                    assert!(failed);
                }
            });
        }
    }
}
