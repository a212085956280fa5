//! The driver over libp2p: TCP, Noise and Yamux on tokio.
//!
//! The transport key is a key of its own: its PeerId is seen by whoever can dial this node and
//! must not be the operator's root key nor the onion service's. The Noise prologue carries the
//! network id, so that nodes of two meshes fail in the handshake.

mod behaviour;
mod control;
mod driver;
mod handle;
mod noise;
mod sealed;
mod transport;
mod work;

pub use driver::Driver;
pub use handle::{
    ByteStream, Closed, DriverConfig, DriverError, EventReceiver, Handle, PublishError, StreamError,
    StreamReceiver,
};
