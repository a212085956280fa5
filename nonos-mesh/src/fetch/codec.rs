use minicbor::{Decode, Encode};
use nonos_identity::wire::Wire;

/// What a fetcher asks of a provider; one frame (`encode_frame`, `FrameDecoder`) per request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// The capsule id, SHA3-512.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub capsule: [u8; 64],
    /// Which part.
    #[n(1)]
    pub want: Want,
}

impl Request {
    /// Longest payment or permit in a request, in bytes: one signed cheque.
    pub const MAX_PAY_BYTES: usize = 4096;
}

impl Wire for Request {
    const MAX_BYTES: usize = Self::MAX_PAY_BYTES + 128;
}

/// The part of a capsule that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Want {
    /// Everything but the chunks: header, manifest, policy, signatures.
    #[n(0)]
    Head,
    /// One chunk.
    #[n(1)]
    Chunk(#[n(0)] u32),
    /// Nothing: it brings a payment, opaque here.
    #[n(2)]
    Pay(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Which chunks the provider holds.
    #[n(3)]
    Have,
    /// Nothing: it shows why the asker may have a capsule that is not for everybody, opaque here.
    #[n(4)]
    Permit(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
}

/// A provider's answer; one frame per response, in the order of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Response {
    /// The head.
    #[n(0)]
    Head(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// One chunk.
    #[n(1)]
    Chunk {
        /// Its position.
        #[n(0)]
        index: u32,
        /// Chunk and proof, as the application writes them.
        #[cbor(n(1), with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// The payment was booked.
    #[n(2)]
    Paid,
    /// The provider does not hold this capsule or chunk.
    #[n(3)]
    NotFound,
    /// The provider wants to be paid first: an amount in nano-mod.
    #[n(4)]
    PaymentRequired(#[n(0)] u64),
    /// The provider has no capacity now.
    #[n(5)]
    Busy,
    /// The chunks it holds, in the bytes of a [`Bitmap`](super::Bitmap).
    #[n(6)]
    Have(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// The permit holds: the chunks are served on this stream.
    #[n(7)]
    Permitted,
}

impl Wire for Response {
    /// The longest head; a chunk of 64 KiB with its proof is shorter.
    const MAX_BYTES: usize = 512 * 1024;
}
