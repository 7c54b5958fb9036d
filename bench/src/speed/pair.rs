//! A device that writes and one that reads: what a measurement exchanges messages through, whatever
//! carries them.

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use holdfast::{Client, Outcome, SendOptions};
use tokio::task::JoinHandle;

use super::{
    Problem,
    arrival::{attach_all, close_all},
    audience::Progress,
    target::Site,
};

/// Two that exchange messages, in one direction.
pub(crate) trait Pair: Send + Sync + 'static {
    /// Sends a message; returns when the other's app has acknowledged it, and the sender has heard so.
    fn exchange(&self, body: Bytes) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Two devices of an account, each with the client library, its memory in memory.
pub(crate) struct Devices {
    writer: Client,
    reader: Client,
    to: String,
    reading: JoinHandle<()>,
}

impl Devices {
    /// So many pairs, attached.
    pub(crate) async fn attach(
        site: &Site,
        pairs: u32,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Self>, Problem> {
        let mut configs = Vec::new();
        for number in 0..pairs {
            for device in ["pc", "phone"] {
                configs.push(site.device(&format!("bench-{number}"), device)?);
            }
        }
        let (clients, _) = attach_all(configs, progress).await?;
        let pairs = clients.chunks_exact(2);
        Ok(pairs.map(|pair| Self::new(&pair[0], &pair[1])).collect())
    }

    fn new(writer: &Client, reader: &Client) -> Self {
        Self {
            writer: writer.clone(),
            reader: reader.clone(),
            to: reader.identity().to_string(),
            reading: tokio::spawn(read(reader.clone())),
        }
    }

    /// Ends all of them.
    pub(crate) async fn close(pairs: &[Arc<Self>]) {
        let mut clients = Vec::new();
        for pair in pairs {
            pair.reading.abort();
            clients.extend([pair.writer.clone(), pair.reader.clone()]);
        }
        close_all(clients).await;
    }
}

impl Pair for Devices {
    async fn exchange(&self, body: Bytes) -> Result<(), Problem> {
        // The relay stores what its recipient does not answer for some round trips, and says so; what
        // is measured goes on to the recipient's answer.
        let options = SendOptions {
            notify: true,
            ..SendOptions::default()
        };
        let sent = self.writer.send(&self.to, body, options).await?;
        match sent.delivered().await? {
            Outcome::Delivered => Ok(()),
            other => Err(Problem::Outcome(other)),
        }
    }
}

/// An app that is done with what it gets at once, and does not wait until its device remembers: that is
/// the client's business, which acknowledges it then and not before.
async fn read(client: Client) {
    while let Some(received) = client.next().await {
        tokio::select! {
            biased;
            _ = received.done() => {}
            () = ready(()) => {}
        }
    }
}
