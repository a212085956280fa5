use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::digest::Digest;
use crate::domain::Domain;
use crate::key::{PublicKey, Signature, SignatureError, SigningKey};
use crate::network::NetworkId;
use crate::time::{Epoch, Timestamp};
use crate::verified::{Unverified, Verified};
use crate::wire::{self, DecodeError, Wire};

/// The envelope format this crate writes and the only one it reads.
const VERSION: u8 = 1;

/// What an envelope says about its body.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub struct Header {
    #[n(0)]
    version: u8,
    /// What the body is; the numbers belong to the crate that defines the body.
    #[n(1)]
    pub kind: u16,
    /// Who signed.
    #[n(2)]
    pub key: PublicKey,
    /// Position in the signer's sequence of this kind; the higher replaces the lower.
    #[n(3)]
    pub seq: u64,
    /// The epoch it was made in.
    #[n(4)]
    pub epoch: Epoch,
    /// The first second at which it is no longer valid.
    #[n(5)]
    pub expiry: Timestamp,
}

/// The signed part: header and body.
#[derive(Encode, Decode)]
struct Content {
    #[n(0)]
    header: Header,
    #[cbor(n(1), with = "minicbor::bytes")]
    body: Vec<u8>,
}

impl Wire for Content {
    const MAX_BYTES: usize = Envelope::MAX_BODY_BYTES + 256;
}

#[derive(Encode, Decode)]
struct Sealed {
    #[cbor(n(0), with = "minicbor::bytes")]
    content: Vec<u8>,
    #[n(1)]
    signature: Signature,
}

impl Wire for Sealed {
    const MAX_BYTES: usize = Content::MAX_BYTES + 128;
}

/// A signed record that keeps and forwards its original bytes.
///
/// Wire form: `[content, signature]`, `content` being the CBOR bytes of
/// `[[version, kind, key, seq, epoch, expiry], body]`. The signature covers
/// `domain || network_id || content`.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    header: Header,
    body: Vec<u8>,
    content: Vec<u8>,
    signature: Signature,
    bytes: Arc<[u8]>,
}

/// Why an envelope does not count. Always its sender's or signer's fault, but for clock skew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Signed for another purpose, network or by another key, or altered.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Past its expiry.
    #[error("expired at {0}")]
    Expired(Timestamp),
    /// Made in an epoch that has not begun, beyond the allowed clock skew.
    #[error("made in the future, epoch {0}")]
    Future(Epoch),
    /// Another kind of record than expected.
    #[error("kind {found} where {expected} is expected")]
    Kind {
        /// The kind the caller asked for.
        expected: u16,
        /// The kind in the header.
        found: u16,
    },
}

impl Envelope {
    /// Longest body, in bytes: what a peer can make us hold before any check.
    pub const MAX_BODY_BYTES: usize = 64 * 1024;

    /// Signs a body.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if the body exceeds [`Self::MAX_BODY_BYTES`]; the caller's fault.
    #[expect(clippy::too_many_arguments, reason = "every field of the header is a decision of the caller")]
    pub fn seal(
        key: &SigningKey,
        domain: Domain,
        network: &NetworkId,
        kind: u16,
        seq: u64,
        now: Timestamp,
        lifetime: Duration,
        body: Vec<u8>,
    ) -> Result<Verified<Self>, DecodeError> {
        if body.len() > Self::MAX_BODY_BYTES {
            return Err(DecodeError::TooLong { len: body.len(), limit: Self::MAX_BODY_BYTES });
        }
        let header = Header {
            version: VERSION,
            kind,
            key: key.public(),
            seq,
            epoch: Epoch::at(now),
            expiry: now.saturating_add(lifetime),
        };
        let content = Content { header, body };
        let content_bytes = wire::to_bytes(&content);
        let signature = key.sign(domain, network, &content_bytes);
        let sealed = Sealed { content: content_bytes, signature };
        let bytes = wire::to_bytes(&sealed).into();
        let Content { header, body } = content;
        let envelope = Self { header, body, content: sealed.content, signature, bytes };
        Unverified::new(envelope).check(|_| Ok(()))
    }

    /// Parses received bytes; nothing in them may be used before [`Unverified::check_signed`].
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a canonical envelope of a known version.
    pub fn parse(bytes: &[u8]) -> Result<Unverified<Self>, DecodeError> {
        let sealed: Sealed = wire::from_bytes(bytes)?;
        let Content { header, body } = wire::from_bytes(&sealed.content)?;
        if header.version != VERSION {
            return Err(DecodeError::Malformed);
        }
        if body.len() > Self::MAX_BODY_BYTES {
            return Err(DecodeError::TooLong { len: body.len(), limit: Self::MAX_BODY_BYTES });
        }
        Ok(Unverified::new(Self {
            header,
            body,
            content: sealed.content,
            signature: sealed.signature,
            bytes: bytes.into(),
        }))
    }

    /// Kind, signer, sequence number, epoch and expiry.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The signed body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The bytes as received or sealed: what is stored and forwarded.
    #[must_use]
    pub const fn as_bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The id of the record: a hash of the signed content under a domain of the caller's. The
    /// signature stays out of it, for a signer can make several that are valid for one content.
    #[must_use]
    pub fn id(&self, domain: Domain) -> Digest {
        Digest::of(domain, &[&self.content])
    }
}

impl Unverified<Envelope> {
    /// Checks kind, signature and validity at `now`.
    ///
    /// # Errors
    /// [`EnvelopeError`] names the first check that failed.
    pub fn check_signed(
        self,
        domain: Domain,
        network: &NetworkId,
        kind: u16,
        now: Timestamp,
    ) -> Result<Verified<Envelope>, EnvelopeError> {
        self.check(|envelope| {
            let header = &envelope.header;
            if header.kind != kind {
                return Err(EnvelopeError::Kind { expected: kind, found: header.kind });
            }
            if header.expiry <= now {
                return Err(EnvelopeError::Expired(header.expiry));
            }
            if header.epoch.start() > now.saturating_add(Timestamp::MAX_SKEW) {
                return Err(EnvelopeError::Future(header.epoch));
            }
            header.key.verify(domain, network, &envelope.content, &envelope.signature)?;
            Ok(())
        })
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("header", &self.header)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Domain = Domain::new("nonos/identity/test/v1");
    const ID: Domain = Domain::new("nonos/identity/test-id/v1");
    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn net() -> NetworkId {
        NetworkId::from_name("test")
    }

    fn seal(body: &[u8]) -> Envelope {
        let key = SigningKey::from_seed(&[1; 32]);
        Envelope::seal(&key, D, &net(), 7, 3, NOW, HOUR, body.to_vec()).expect("short body").into_inner()
    }

    fn check(bytes: &[u8]) -> Result<Verified<Envelope>, EnvelopeError> {
        Envelope::parse(bytes).expect("canonical").check_signed(D, &net(), 7, NOW)
    }

    #[test]
    fn what_was_sealed_is_what_arrives() {
        let sealed = seal(b"body");
        let received = check(sealed.as_bytes()).expect("valid");
        assert_eq!(*received, sealed);
        assert_eq!(received.body(), b"body");
        assert_eq!(received.header().key, SigningKey::from_seed(&[1; 32]).public());
        assert_eq!((received.header().kind, received.header().seq), (7, 3));
        assert_eq!(received.id(ID), sealed.id(ID));
        assert_ne!(received.id(ID), seal(b"other").id(ID));
    }

    #[test]
    fn no_altered_byte_is_accepted() {
        let bytes = seal(b"body").as_bytes().to_vec();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                let outcome = Envelope::parse(&altered).map(|e| e.check_signed(D, &net(), 7, NOW));
                assert!(!matches!(outcome, Ok(Ok(_))), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn each_check_is_made() {
        let parse = || Envelope::parse(seal(b"body").as_bytes()).expect("canonical");
        let other = Domain::new("nonos/identity/other-test/v1");
        let net = net();
        let forged = EnvelopeError::Signature(SignatureError);
        assert_eq!(parse().check_signed(other, &net, 7, NOW), Err(forged));
        assert_eq!(parse().check_signed(D, &NetworkId::from_name("x"), 7, NOW), Err(forged));
        let kind = EnvelopeError::Kind { expected: 8, found: 7 };
        assert_eq!(parse().check_signed(D, &net, 8, NOW), Err(kind));

        let expiry = NOW.saturating_add(HOUR);
        let last = Timestamp::from_secs(expiry.as_secs() - 1);
        assert!(parse().check_signed(D, &net, 7, last).is_ok());
        assert_eq!(parse().check_signed(D, &net, 7, expiry), Err(EnvelopeError::Expired(expiry)));

        let epoch = Epoch::at(NOW);
        let early = epoch.start().as_secs() - Timestamp::MAX_SKEW.as_secs();
        assert!(parse().check_signed(D, &net, 7, Timestamp::from_secs(early)).is_ok());
        let too_early = Timestamp::from_secs(early - 1);
        assert_eq!(parse().check_signed(D, &net, 7, too_early), Err(EnvelopeError::Future(epoch)));
    }

    #[test]
    fn the_limit_binds_senders_and_receivers() {
        let key = SigningKey::from_seed(&[1; 32]);
        let limit = Envelope::MAX_BODY_BYTES;
        let seal = |len| Envelope::seal(&key, D, &net(), 7, 3, NOW, HOUR, vec![0; len]);
        let longest = seal(limit).expect("at the limit");
        assert!(check(longest.as_bytes()).is_ok());
        let error = DecodeError::TooLong { len: limit + 1, limit };
        assert_eq!(seal(limit + 1).expect_err("over the limit"), error);

        let header = longest.header().clone();
        let content = wire::to_bytes(&Content { header, body: vec![0; limit + 1] });
        let signature = key.sign(D, &net(), &content);
        let bytes = wire::to_bytes(&Sealed { content, signature });
        assert_eq!(Envelope::parse(&bytes).expect_err("over the limit"), error);
    }

    #[test]
    fn a_later_version_is_refused() {
        let key = SigningKey::from_seed(&[1; 32]);
        let header = Header { version: VERSION + 1, ..seal(b"").header().clone() };
        let content = wire::to_bytes(&Content { header, body: Vec::new() });
        let signature = key.sign(D, &net(), &content);
        let bytes = wire::to_bytes(&Sealed { content, signature });
        assert_eq!(Envelope::parse(&bytes).expect_err("unknown version"), DecodeError::Malformed);
    }
}
