//! One connection as bytes in and bytes out, for a pure state machine to talk through: the control
//! stream, bodies on streams of their own, and datagrams.
//!
//! [`Wire::next`] is the only await of a session's loop. It reads whatever comes, and meanwhile
//! writes what was queued; it may be dropped at any time without losing a byte.

use std::{
    collections::VecDeque,
    future::{Future as _, poll_fn},
    mem,
    pin::pin,
    task::{Poll, ready},
};

use bytes::{Bytes, BytesMut};
use holdfast_protocol::{
    close::{CloseCode, Violation},
    frame::Encoded,
    pace::{Pace, Patience},
    time::Time,
};
use quinn::{Connection, ReadError, RecvStream, SendDatagramError, SendStream, WriteError};
use tokio::time::{Instant, sleep_until};

use crate::{Ending, ending::error_code};

/// How much is read from a stream at once, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// How many chunks of the control stream are taken at once: as many packets as a burst has.
const READ_CHUNKS: usize = 8;

/// How many pieces are handed to quinn at once.
const WRITE_PIECES: usize = 64;

/// A piece of at most so many bytes is copied to the end of the one before it. Most frames are short,
/// and what quinn keeps of each piece costs more than the copy.
const COPIED: usize = 2048;

/// The control stream goes out before bodies on streams of their own.
const CONTROL_PRIORITY: i32 = 1;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Bytes of the control stream.
    Control(Bytes),
    /// A whole stream of its own; in the order in which the other side opened them.
    Bulk(Bytes),
    /// A datagram.
    Datagram(Bytes),
}

/// One connection with its control stream.
#[derive(Debug)]
pub struct Wire {
    connection: Connection,
    control_in: RecvStream,
    control_out: Outgoing,
    bulk_in: BulkReader,
    bulk_out: BulkWriter,
    /// What has come of the control stream, and was not handed out.
    heard: VecDeque<Bytes>,
}

impl Wire {
    /// The side that dialled opens the control stream.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn open(connection: Connection, max_bulk: usize) -> Result<Self, Ending> {
        let (send, recv) = connection.open_bi().await?;
        Ok(Self::new(connection, send, recv, max_bulk))
    }

    /// Has the other side send its bodies on streams of their own at no slower a pace. One that does
    /// not is closed with [`CloseCode::SlowSender`].
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.bulk_in.pace = Some(pace);
        self
    }

    /// The side that was dialled accepts it.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn accept(connection: Connection, max_bulk: usize) -> Result<Self, Ending> {
        let (send, recv) = connection.accept_bi().await?;
        Ok(Self::new(connection, send, recv, max_bulk))
    }

    fn new(connection: Connection, send: SendStream, recv: RecvStream, max_bulk: usize) -> Self {
        // Fails only if the stream is gone; then so is the connection, as the next read says.
        let _ = send.set_priority(CONTROL_PRIORITY);
        Self {
            connection,
            control_in: recv,
            control_out: Outgoing::new(send),
            bulk_in: BulkReader::new(max_bulk),
            bulk_out: BulkWriter::default(),
            heard: VecDeque::new(),
        }
    }

    /// The connection underneath.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Queues bytes for the control stream.
    pub fn control(&mut self, bytes: Bytes) {
        self.control_out.push(bytes);
    }

    /// Queues a stream of its own.
    pub fn bulk(&mut self, frame: Encoded) {
        self.bulk_out.push(frame);
    }

    /// Sends a datagram now, or not at all: a later one will say the same.
    ///
    /// # Errors
    /// When the other side takes none, or the connection has ended.
    pub fn datagram(&self, bytes: Bytes) -> Result<(), SendDatagramError> {
        self.connection.send_datagram(bytes)
    }

    /// Little happens: gives back the memory that busier times have needed.
    pub fn rest(&mut self) {
        self.heard.shrink_to_fit();
        self.control_out.pieces.shrink_to_fit();
        self.bulk_out.waiting.shrink_to_fit();
    }

    /// What was queued and not yet taken by QUIC, in bytes.
    pub fn backlog(&self) -> usize {
        self.control_out.bytes + self.bulk_out.bytes
    }

    /// Waits until the other side has said something on the control stream, which
    /// [`next`](Self::next) then hands out. Cancel safe.
    ///
    /// # Errors
    /// The [`Ending`] of the connection, or of its control stream.
    pub async fn listen(&mut self) -> Result<(), Ending> {
        if self.heard.is_empty() {
            read(&mut self.control_in, &mut self.heard).await?;
        }
        Ok(())
    }

    /// Waits for what comes next, and writes meanwhile. Cancel safe.
    ///
    /// # Errors
    /// The [`Ending`] of the connection, or of its control stream.
    pub async fn next(&mut self) -> Result<Incoming, Ending> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(Incoming::Control(heard));
            }
            tokio::select! {
                read = read(&mut self.control_in, &mut self.heard) => read?,
                datagram = self.connection.read_datagram() => {
                    return Ok(Incoming::Datagram(datagram?));
                }
                bulk = self.bulk_in.next(&self.connection) => match bulk {
                    Ok(bytes) => return Ok(Incoming::Bulk(bytes)),
                    Err(violation) => {
                        let violation = violation?;
                        self.close(&violation);
                        return Err(violation.into());
                    }
                },
                written = self.control_out.write(), if !self.control_out.is_empty() => written?,
                written = self.bulk_out.write(&self.connection), if !self.bulk_out.is_empty() => {
                    written?;
                }
            }
        }
    }

    /// Writes out everything that was queued, and finishes the control stream.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn flush(&mut self) -> Result<(), Ending> {
        while !self.control_out.is_empty() {
            self.control_out.write().await?;
        }
        while !self.bulk_out.is_empty() {
            self.bulk_out.write(&self.connection).await?;
        }
        Ok(())
    }

    /// Closes the connection. What was queued and not written is dropped.
    pub fn close(&self, violation: &Violation) {
        self.connection
            .close(error_code(violation.code), violation.what.as_bytes());
    }
}

/// What waits to be written to one stream.
#[derive(Debug)]
struct Outgoing {
    stream: SendStream,
    pieces: VecDeque<Bytes>,
    /// What comes after the pieces, and may still grow.
    last: BytesMut,
    bytes: usize,
}

impl Outgoing {
    fn new(stream: SendStream) -> Self {
        Self {
            stream,
            pieces: VecDeque::new(),
            last: BytesMut::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() <= COPIED {
            self.last.extend_from_slice(&piece);
        } else {
            self.end_last();
            self.pieces.push_back(piece);
        }
    }

    /// Nothing is added to the last piece any more. Its memory is given up, too: most connections are
    /// idle most of the time.
    fn end_last(&mut self) {
        if !self.last.is_empty() {
            self.pieces.push_back(mem::take(&mut self.last).freeze());
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes some of what waits. `write_chunks` takes pieces whole or in part in place, so
    /// dropping the future between two polls loses nothing.
    async fn write(&mut self) -> Result<(), Ending> {
        self.end_last();
        let pieces = self.pieces.make_contiguous();
        let count = pieces.len().min(WRITE_PIECES);
        let written = self
            .stream
            .write_chunks(&mut pieces[..count])
            .await
            .map_err(write_ending)?;
        self.pieces.drain(..written.chunks);
        self.bytes -= written.bytes;
        Ok(())
    }
}

/// Reads streams one after the other, in the order in which the other side opened them.
#[derive(Debug)]
struct BulkReader {
    limit: usize,
    pace: Option<Pace>,
    /// The origin of every [`Time`] here.
    started: Instant,
    /// Boxed, as most of the time there is none.
    current: Option<Box<Arriving>>,
    collected: BytesMut,
}

/// A stream that is being read.
#[derive(Debug)]
struct Arriving {
    stream: RecvStream,
    patience: Option<Patience>,
}

impl BulkReader {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            pace: None,
            started: Instant::now(),
            current: None,
            collected: BytesMut::new(),
        }
    }

    /// The next whole stream. Cancel safe: what was read so far stays here.
    async fn next(&mut self, connection: &Connection) -> Result<Bytes, Result<Violation, Ending>> {
        loop {
            let started = self.started;
            let Some(arriving) = &mut self.current else {
                let stream = connection.accept_uni().await.map_err(|e| Err(e.into()))?;
                let now = Time::at(started.elapsed());
                let patience = self.pace.map(|pace| Patience::new(pace, now));
                self.current = Some(Box::new(Arriving { stream, patience }));
                continue;
            };
            let read = tokio::select! {
                biased;
                read = arriving.stream.read_chunk(READ_SIZE, true) => read,
                // Boxed, for the same reason.
                () = Box::pin(at_the_end_of(arriving.patience, started)) => {
                    return Err(Ok(too_slow()));
                }
            };
            match read {
                Ok(Some(chunk)) => {
                    self.collected.extend_from_slice(&chunk.bytes);
                    if let Some(patience) = &mut arriving.patience {
                        patience.progress(Time::at(started.elapsed()), chunk.bytes.len() as u64);
                    }
                }
                Ok(None) => {
                    self.current = None;
                    return Ok(mem::take(&mut self.collected).freeze());
                }
                Err(ReadError::Reset(_)) => {
                    return Err(Ok(Violation::malformed("a stream was cut off")));
                }
                Err(error) => return Err(Err(read_ending(error))),
            }
            if self.collected.len() > self.limit {
                let what = format!("more than {} bytes on a stream", self.limit);
                return Err(Ok(Violation::oversized(what)));
            }
        }
    }
}

async fn at_the_end_of(patience: Option<Patience>, started: Instant) {
    match patience {
        Some(patience) => sleep_until(started + patience.ends().since_origin()).await,
        None => std::future::pending().await,
    }
}

fn too_slow() -> Violation {
    let what = "a body on a stream of its own came too slowly";
    Violation::new(CloseCode::SlowSender, what)
}

/// Writes streams one after the other, in the order in which they were queued.
#[derive(Debug, Default)]
struct BulkWriter {
    /// Boxed, as most of the time there is none.
    current: Option<Box<Outgoing>>,
    waiting: VecDeque<Encoded>,
    bytes: usize,
}

impl BulkWriter {
    fn push(&mut self, frame: Encoded) {
        self.bytes += frame.len();
        self.waiting.push_back(frame);
    }

    fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Writes some of what waits. Cancel safe.
    async fn write(&mut self, connection: &Connection) -> Result<(), Ending> {
        if self.current.is_none() {
            let stream = connection.open_uni().await?;
            let Some(frame) = self.waiting.pop_front() else {
                return Ok(());
            };
            let mut outgoing = Outgoing::new(stream);
            outgoing.push(frame.head);
            outgoing.push(frame.body);
            self.current = Some(Box::new(outgoing));
        }
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let before = current.bytes;
        current.write().await?;
        self.bytes -= before - current.bytes;
        if current.is_empty() {
            // Fails only if the other side stopped the stream; it then says why by closing.
            let _ = current.stream.finish();
            self.current = None;
        }
        Ok(())
    }
}

/// Waits for what comes next of the control stream, and takes all that is there. Cancel safe.
async fn read(control: &mut RecvStream, heard: &mut VecDeque<Bytes>) -> Result<(), Ending> {
    poll_fn(|context| {
        // Here, and not in a future that each idle connection would keep.
        let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
        let read = {
            let read = pin!(control.read_chunks(&mut chunks));
            ready!(read.poll(context))
        };
        match read {
            Ok(Some(count)) => {
                heard.extend(chunks.into_iter().take(count));
                Poll::Ready(Ok(()))
            }
            Ok(None) => Poll::Ready(Err(finished())),
            Err(error) => Poll::Ready(Err(read_ending(error))),
        }
    })
    .await
}

fn finished() -> Ending {
    Ending::Lost("the control stream was finished".to_owned())
}

fn read_ending(error: ReadError) -> Ending {
    match error {
        ReadError::ConnectionLost(error) => error.into(),
        other => Ending::Lost(other.to_string()),
    }
}

fn write_ending(error: WriteError) -> Ending {
    match error {
        WriteError::ConnectionLost(error) => error.into(),
        other => Ending::Lost(other.to_string()),
    }
}

/// The violation that says goodbye.
pub fn goodbye() -> Violation {
    Violation::new(CloseCode::Goodbye, "")
}
