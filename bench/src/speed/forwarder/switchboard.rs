//! The forwarder itself: who is connected under which number, and a pump for each.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;
use quinn::{Endpoint, Incoming, RecvStream, SendStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::frame::{Frames, frame};

/// How many frames leave in one write at most.
const BATCH: usize = 256;

/// How much is read at a time.
const PIECE: usize = 64 * 1024;

/// Where each client's frames go. What waits there is bounded by how many its senders have on their way.
type Lines = Arc<RwLock<HashMap<u32, UnboundedSender<Bytes>>>>;

/// Forwards until the endpoint is closed.
pub(super) async fn serve(endpoint: Endpoint) {
    let lines = Lines::default();
    while let Some(incoming) = endpoint.accept().await {
        let lines = lines.clone();
        tokio::spawn(async move { attend(incoming, lines).await });
    }
}

/// One client, until it goes. `None` is how that shows.
async fn attend(incoming: Incoming, lines: Lines) -> Option<()> {
    let connection = incoming.await.ok()?;
    let (sending, mut receiving) = connection.accept_bi().await.ok()?;
    let mut number = [0; 4];
    receiving.read_exact(&mut number).await.ok()?;
    let number = u32::from_le_bytes(number);
    let (line, waiting) = mpsc::unbounded_channel();
    line.send(frame(number, &[])).ok()?;
    lines.write().insert(number, line);
    tokio::join!(pass_on(receiving, lines), write(sending, waiting));
    Some(())
}

async fn pass_on(mut stream: RecvStream, lines: Lines) {
    let mut frames = Frames::default();
    while let Ok(Some(piece)) = stream.read_chunk(PIECE, true).await {
        frames.extend(&piece.bytes);
        let lines = lines.read();
        while let Some((to, frame)) = frames.next() {
            if let Some(line) = lines.get(&to) {
                // Fails only if that one has gone.
                let _ = line.send(frame);
            }
        }
    }
}

/// Writes what waits, as much as there is at a time.
pub(super) async fn write(mut stream: SendStream, mut waiting: UnboundedReceiver<Bytes>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        if stream.write_all_chunks(&mut batch).await.is_err() {
            return;
        }
        batch.clear();
    }
}
