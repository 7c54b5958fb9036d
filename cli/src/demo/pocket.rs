//! A device that the system freezes: it has a runtime of its own, which stands still unless
//! somebody drives it. It sends no goodbye, answers nothing, and does not know that time passes.

use holdfast::{Client, Config};
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
};

use crate::failure::Failure;

/// A device, frozen except within [`Pocket::awake`].
pub(crate) struct Pocket {
    client: Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Pocket {
    /// Makes the client; it is frozen when this returns.
    pub(crate) async fn open(config: Config) -> Result<Self, Failure> {
        let opening = spawn_blocking(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(Failure::file("a runtime"))?;
            let client = runtime.block_on(Client::connect(config));
            Ok(Self {
                client: client.map_err(Failure::Connect)?,
                runtime: Some(runtime),
            })
        });
        opening.await.map_err(ended)?
    }

    /// Lets it live until `act` is done.
    pub(crate) async fn awake<T: Send + 'static>(
        self,
        act: impl AsyncFnOnce(&Client) -> T + Send + 'static,
    ) -> Result<(Self, T), Failure> {
        let living = spawn_blocking(move || {
            let runtime = self.runtime.as_ref();
            let done = runtime.map(|runtime| runtime.block_on(act(&self.client)));
            done.map(|done| (self, done))
        });
        let lived = living.await.map_err(ended)?;
        lived.ok_or_else(|| Failure::Demo("a device has ended".to_owned()))
    }
}

impl Drop for Pocket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn ended(error: tokio::task::JoinError) -> Failure {
    Failure::Demo(format!("a device has ended: {error}"))
}
