//! One end of a connection, without the connection: bytes go in, and what is to leave comes out.
//!
//! A [`Session`](super::session::Session), and either end of a link between relays, are driven in
//! the same way: feed one, then take what it says until it says nothing more; look at its deadline;
//! hand over when its bell has rung.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{
    close::Violation,
    frame::Encoded,
    heartbeat::millis,
    id::Lane,
    message::{GoAway, RelayAddress},
    time::Time,
};

use super::comeback::Comeback;
use crate::{bell::Bell, mail::desk::Moment};

/// What is to leave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// Write this to the control stream.
    Control(Bytes),
    /// Write this to a unidirectional stream of its own; streams in the order of these.
    Bulk(Encoded),
    /// Send this datagram.
    Datagram(Bytes),
    /// Close the connection; nothing follows.
    Close(Violation),
}

impl Outgoing {
    /// How many bytes of payload go to the other side.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Control(bytes) | Self::Datagram(bytes) => bytes.len(),
            Self::Bulk(frame) => frame.len(),
            Self::Close(_) => 0,
        }
    }

    /// How many bytes of it may wait on a stream.
    pub(super) fn queued(&self) -> usize {
        match self {
            Self::Control(bytes) => bytes.len(),
            Self::Bulk(frame) => frame.len(),
            Self::Datagram(_) | Self::Close(_) => 0,
        }
    }

    /// A frame in its lane: on the control stream, or on a stream of its own.
    pub(super) fn in_lane(lane: Lane, frame: Encoded) -> impl Iterator<Item = Self> {
        let pieces = match lane {
            Lane::Message => [Self::Control(frame.head), Self::Control(frame.body)].into(),
            Lane::Bulk => vec![Self::Bulk(frame)],
        };
        let is_empty = |piece: &Self| matches!(piece, Self::Control(bytes) if bytes.is_empty());
        pieces.into_iter().filter(move |piece| !is_empty(piece))
    }
}

/// How devices are to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exodus {
    /// When those that are left are closed.
    pub(crate) until: Time,
    /// Over how long they set out.
    pub(crate) spread: Duration,
    /// Where to.
    pub(crate) successors: Vec<RelayAddress>,
}

impl Exodus {
    /// So many devices are to be gone within a time.
    pub(crate) fn begin(
        now: Time,
        within: Duration,
        (devices, comeback): (usize, Comeback),
        successors: Vec<RelayAddress>,
    ) -> Self {
        Self {
            until: now + within,
            spread: comeback.spread(devices, successors.len(), within),
            successors,
        }
    }

    /// What one of them is told, now: one after the other is sent to each of the successors first, as
    /// `number` says.
    pub(crate) fn tell(mut self, now: Time, number: u64) -> GoAway {
        let within = self.until.since(now);
        if let Some(first) = number.checked_rem(self.successors.len() as u64) {
            self.successors.rotate_left(first as usize);
        }
        GoAway {
            within_ms: millis(within),
            spread_ms: millis(self.spread.min(within)),
            successors: self.successors,
        }
    }
}

/// Whether the relay goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tide {
    /// It does.
    #[default]
    Running,
    /// It is stopping: devices are to go elsewhere.
    Draining(Exodus),
    /// It stops now.
    Stopping,
}

/// One end of a connection.
pub(crate) trait End {
    /// Rings when there is something to [`hand_over`](Self::hand_over).
    fn bell(&self) -> Bell;

    /// Takes bytes of the control stream.
    fn control(&mut self, now: Moment, bytes: Bytes);

    /// Takes a whole unidirectional stream, in the order in which the other side opened them.
    fn bulk(&mut self, now: Moment, bytes: Bytes);

    /// Takes a datagram that came from `observed`.
    fn datagram(&mut self, now: Moment, bytes: Bytes, observed: SocketAddr) {
        let _ = (now, bytes, observed);
    }

    /// Hands the other side what the rules have for it.
    fn hand_over(&mut self, now: Moment);

    /// Does what is due.
    fn timeout(&mut self, now: Moment) {
        let _ = now;
    }

    /// When [`timeout`](Self::timeout) is due.
    fn deadline(&self) -> Option<Time> {
        None
    }

    /// The tide has turned.
    fn turn(&mut self, now: Moment, tide: Tide) {
        let _ = (now, tide);
    }

    /// So many bytes were given out and have not left yet.
    fn set_backlog(&mut self, now: Moment, bytes: usize) {
        let _ = (now, bytes);
    }

    /// The next thing to do.
    fn poll(&mut self) -> Option<Outgoing>;

    /// Little happens: gives back the memory that busier times have needed.
    fn rest(&mut self) {}

    /// The connection is gone.
    fn leave(&mut self, now: Moment);
}
