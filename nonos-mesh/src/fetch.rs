//! Fetching the chunks of a capsule from several providers.
//!
//! [`Fetch`] decides whom to ask for which chunk; it moves no bytes and checks none itself: the
//! application verifies each chunk before it counts. [`Request`] and [`Response`] are what the
//! two sides say over one byte stream.

mod bitmap;
mod codec;
mod machine;

pub use bitmap::Bitmap;
pub use codec::{Request, Response, Want};
pub use machine::{Config, Fetch, FetchError, Input, Output, ProviderId};
