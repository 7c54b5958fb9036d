//! Simulated time: what happens when.

use std::{cmp::Ordering, collections::BinaryHeap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use holdfast::core::Source;
use holdfast_protocol::{
    allocation::{Allocation, Lease, Leased},
    id::{Lane, Name},
    time::Time,
};

use super::{faults::Fault, network::ConnId, party::Party};

/// Something that will happen. Most of it concerns one life of one party, and is void in the next.
#[derive(Debug)]
pub(crate) enum Event {
    /// The oldest piece of a stream has come to an end of a connection.
    Arrival {
        conn: ConnId,
        end: usize,
        lane: Lane,
    },
    /// A datagram has come.
    Datagram {
        conn: ConnId,
        end: usize,
        bytes: Bytes,
        observed: SocketAddr,
    },
    /// A connection that is watched may have been silent for too long.
    Idle { conn: ConnId },
    /// A party asked to be woken.
    Timer(Party),
    /// Somebody dials.
    Dial(Dial),
    /// A device's or relay's question reaches the allocator.
    Question { number: u64 },
    /// The allocator's answer is back.
    Answer { number: u64, answer: Answer },
    /// No answer came in time.
    NoAnswer { number: u64 },
    /// A relay's or the allocator's disk takes its next step.
    Disk { party: Party, life: u32 },
    /// A device's disk takes its next step.
    Notebook { device: usize, life: u32 },
    /// What a device was to write has left.
    Flushed {
        device: usize,
        life: u32,
        conn: ConnId,
    },
    /// An app sends something.
    Send { device: usize },
    /// An app is done with a message, or lets it go.
    Finish {
        device: usize,
        life: u32,
        source: Source,
        seq: u64,
    },
    /// A party comes (back) to life.
    Boot(Party),
    /// The network heals between two parties.
    Heal(Party, Party),
    /// The next fault.
    Fault,
    /// A fault that was prepared.
    Strike(Fault),
    /// The online lists are compared with the truth.
    Inspection,
}

/// An attempt to connect.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) from: Party,
    pub(crate) life: u32,
    /// Which attempt of that party's this is.
    pub(crate) attempt: u64,
    pub(crate) to: Option<usize>,
    pub(crate) given_up: bool,
}

/// What the allocator says.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Allocation(Allocation),
    Leased(Leased),
    /// The allocator turned the question down, or failed over it.
    Nothing,
}

/// What the allocator is asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// By a device.
    Where,
    /// By a relay.
    Home(Name),
    /// By a relay.
    Lease(Lease),
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap hands out its greatest: the earliest, and of several the one that was put in first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What is to come.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    now: Time,
    count: u64,
    entries: BinaryHeap<Entry>,
}

impl Schedule {
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.count += 1;
        self.entries.push(Entry {
            at: at.max(self.now),
            number: self.count,
            event,
        });
    }

    /// The next event up to a moment; time moves on to it.
    pub(crate) fn next(&mut self, until: Time) -> Option<Event> {
        if self.entries.peek().is_none_or(|entry| entry.at > until) {
            self.now = until;
            return None;
        }
        let entry = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}
