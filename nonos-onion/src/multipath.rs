//! An object over several disjoint circuits, by an erasure code.
//!
//! The object is cut into stripes of [`STRIPE_BYTES`], each stripe into `k` data shards, and `m`
//! parity shards are added; any `k` of them make the stripe. A [`Manifest`] lists the digest of
//! every shard, since a code repairs what is missing and does not notice what is wrong.
//!
//! [`Object`] answers for shards at the one end; at the other [`Manifest::check`] turns bytes into
//! a [`Shard`], and [`Rebuild`] turns shards into stripes. With the feature `tokio`, [`serve`] and
//! [`fetch`] move them over byte streams, one for each circuit.

mod code;
mod encoder;
#[cfg(feature = "tokio")]
mod fetch;
#[cfg(feature = "tokio")]
pub(crate) mod frame;
mod manifest;
mod object;
#[cfg(feature = "tokio")]
mod path;
mod rebuild;
#[cfg(feature = "tokio")]
mod schedule;
#[cfg(feature = "tokio")]
mod serve;

pub use crate::multipath::code::Code;
pub use crate::multipath::encoder::{EncodeError, Encoder};
#[cfg(feature = "tokio")]
pub use crate::multipath::fetch::{
    FetchError, MAX_PATHS, PathFault, PathReport, Progress, Report, Sink, fetch,
};
#[cfg(feature = "tokio")]
pub use crate::multipath::frame::FrameError;
pub use crate::multipath::manifest::{
    MAX_OBJECT_BYTES, MAX_STRIPES, Manifest, ManifestError, Shard, ShardError, ShardFault, ShardId,
};
pub use crate::multipath::object::{Object, Source};
#[cfg(feature = "tokio")]
pub use crate::multipath::path::{MAX_OUTSTANDING, REQUEST_TIMEOUT};
pub use crate::multipath::rebuild::{MAX_OPEN_STRIPES, Rebuild, RebuildError, Stripe};
#[cfg(feature = "tokio")]
pub use crate::multipath::serve::{IDLE_TIMEOUT, ServeError, serve};

/// Bytes of every stripe but the last: decoding has a fixed cost of about 0.4 ms a call, which
/// smaller stripes would pay too often.
pub const STRIPE_BYTES: usize = 1 << 20;
