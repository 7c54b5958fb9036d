//! The forwarder's clients, in pairs. Each has a socket of its own, as devices have.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream};
use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    task::JoinSet,
};

use super::{
    super::{Problem, pair::Pair},
    HOST,
    frame::{Frames, body, frame},
    switchboard::write,
};

/// How much is read at a time.
const PIECE: usize = 64 * 1024;

/// Messages that are not acknowledged yet, by their number.
type Awaited = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// One that sends, and one that acknowledges what comes.
pub(crate) struct Callers {
    frames: UnboundedSender<Bytes>,
    awaited: Awaited,
    next: AtomicU64,
    /// The number of the one that acknowledges.
    to: u32,
    _connections: [Connection; 2],
    _tasks: JoinSet<()>,
}

/// A client: its connection, what it reads, and where its frames go.
struct Caller {
    connection: Connection,
    receiving: RecvStream,
    frames: UnboundedSender<Bytes>,
}

impl Callers {
    /// A pair, which no other pair has the number of.
    pub(super) async fn connect(
        config: &ClientConfig,
        server: SocketAddr,
        number: u32,
    ) -> Result<Self, Problem> {
        let (from, to) = (2 * number, 2 * number + 1);
        let mut tasks = JoinSet::new();
        let sender = call(config, server, from, &mut tasks).await?;
        let reader = call(config, server, to, &mut tasks).await?;
        let awaited = Awaited::default();
        tasks.spawn(take_answers(sender.receiving, awaited.clone()));
        tasks.spawn(answer(reader.receiving, reader.frames, from));
        Ok(Self {
            frames: sender.frames,
            awaited,
            next: AtomicU64::new(0),
            to,
            _connections: [sender.connection, reader.connection],
            _tasks: tasks,
        })
    }
}

impl Pair for Callers {
    async fn exchange(&self, body: Bytes) -> Result<(), Problem> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (acknowledged, hears) = oneshot::channel();
        self.awaited.lock().insert(number, acknowledged);
        let sent = self
            .frames
            .send(frame(self.to, &[&number.to_le_bytes(), &body]));
        sent.map_err(|_| Problem::forwarder("a connection was lost"))?;
        let heard = hears.await;
        heard.map_err(|_| Problem::forwarder("a connection was lost"))
    }
}

async fn call(
    config: &ClientConfig,
    server: SocketAddr,
    number: u32,
    tasks: &mut JoinSet<()>,
) -> Result<Caller, Problem> {
    let endpoint = Endpoint::client(holdfast_tests::net::LOOPBACK).map_err(Problem::forwarder)?;
    let connecting = endpoint.connect_with(config.clone(), server, HOST);
    let connection = connecting.map_err(Problem::forwarder)?.await;
    let connection = connection.map_err(Problem::forwarder)?;
    let opened = connection.open_bi().await;
    let (mut sending, mut receiving) = opened.map_err(Problem::forwarder)?;
    let said = sending.write_all(&number.to_le_bytes()).await;
    said.map_err(Problem::forwarder)?;
    let mut welcome = vec![0; frame(number, &[]).len()];
    let welcomed = receiving.read_exact(&mut welcome).await;
    welcomed.map_err(Problem::forwarder)?;
    let (frames, waiting) = mpsc::unbounded_channel();
    tasks.spawn(write(sending, waiting));
    Ok(Caller {
        connection,
        receiving,
        frames,
    })
}

/// Sends the number of each message that comes back to its sender.
async fn answer(stream: RecvStream, frames: UnboundedSender<Bytes>, to: u32) {
    each_number(stream, |number| {
        // Fails only if the connection is lost; then the sender finds out.
        let _ = frames.send(frame(to, &[&number.to_le_bytes()]));
    })
    .await;
}

/// Tells who waits for it. When it ends, so does all waiting.
async fn take_answers(stream: RecvStream, awaited: Awaited) {
    each_number(stream, |number| {
        if let Some(acknowledged) = awaited.lock().remove(&number) {
            // Fails only if nobody waits any more.
            let _ = acknowledged.send(());
        }
    })
    .await;
    awaited.lock().clear();
}

/// The number that each frame begins with.
async fn each_number(mut stream: RecvStream, mut take: impl FnMut(u64)) {
    let mut frames = Frames::default();
    while let Ok(Some(piece)) = stream.read_chunk(PIECE, true).await {
        frames.extend(&piece.bytes);
        while let Some((_, frame)) = frames.next() {
            if let Some(number) = body(frame).first_chunk::<8>() {
                take(u64::from_le_bytes(*number));
            }
        }
    }
}
