//! The queue that leads out of the rules: to a device's session, or over a link to another relay.
//!
//! The rules push and never wait. What can pile up is bounded where it is pushed: deliveries by
//! the mailbox's window, answers by the sender's.

use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use holdfast_protocol::{
    id::Lane,
    message::{Deliver, Gap, Outcome},
};
use parking_lot::Mutex;

use super::message::Place;
use crate::bell::Bell;

/// Which session of this relay's, counted from its start. A link's outlet serves many.
pub(crate) type SessionId = u64;

/// A body, or where to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// At hand.
    Held(Bytes),
    /// On the disk. A row that is gone by then was acknowledged or replaced meanwhile.
    Stored(Place),
}

/// What a question was about, so that its answer finds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// A session's message.
    Submitted {
        /// Its lane.
        lane: Lane,
        /// Its number.
        seq: u64,
    },
    /// A session's change to the list of allowed senders.
    Allow {
        /// The device's tag.
        tag: u32,
    },
    /// Whatever another relay asked under this tag.
    Passed {
        /// The other relay's tag.
        tag: u64,
    },
}

/// What is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// A message for the session's device.
    Deliver {
        /// The session.
        session: SessionId,
        /// The lane.
        lane: Lane,
        /// The header.
        deliver: Deliver,
        /// The body.
        body: Body,
    },
    /// A gap for the session's device.
    Gap {
        /// The session.
        session: SessionId,
        /// The gap.
        gap: Gap,
    },
    /// An answer.
    Answer {
        /// To what.
        question: Question,
        /// The answer.
        outcome: Outcome,
    },
    /// The session's device has a newer one.
    Superseded {
        /// The session.
        session: SessionId,
    },
    /// What the session asks for piles up here faster than it can be passed on.
    Overloaded,
    /// The other relay has made a new link: this one is of no more use.
    Relinked,
}

/// One end of the queue; a clone pushes into the same one.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Inner>);

struct Inner {
    id: u64,
    queue: Mutex<Vec<Outbound>>,
    bell: Bell,
    shut: AtomicBool,
    closed: AtomicBool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Outlet {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner {
            id,
            queue: Mutex::default(),
            bell: Bell::default(),
            shut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }))
    }

    /// Appends, and rings the [`bell`](Self::bell).
    pub(crate) fn push(&self, outbound: Outbound) {
        if self.is_closed() {
            return;
        }
        let mut queue = self.0.queue.lock();
        queue.push(outbound);
        let was_empty = queue.len() == 1;
        drop(queue);
        if was_empty {
            self.0.bell.ring();
        }
    }

    /// Ends what comes from the other side of this outlet: one of its requests could not be kept,
    /// and none after it may overtake it. Its sender starts again from the oldest unanswered one.
    pub(crate) fn shut(&self) {
        self.shut_with(Outbound::Overloaded);
    }

    /// As [`shut`](Self::shut), because the other relay has made a new link.
    pub(crate) fn relink(&self) {
        self.shut_with(Outbound::Relinked);
    }

    fn shut_with(&self, why: Outbound) {
        self.0.shut.store(true, Ordering::Release);
        self.push(why);
    }

    /// Whether [`shut`](Self::shut) or [`relink`](Self::relink) was called.
    pub(crate) fn is_shut(&self) -> bool {
        self.0.shut.load(Ordering::Acquire)
    }

    /// Nobody takes anything out any more: what is queued is dropped, and whatever follows.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.take();
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Takes everything that is queued.
    pub(crate) fn take(&self) -> Vec<Outbound> {
        mem::take(&mut *self.0.queue.lock())
    }

    /// Rings when something was queued since the last [`take`](Self::take).
    pub(crate) fn bell(&self) -> Bell {
        self.0.bell.clone()
    }
}

impl PartialEq for Outlet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Outlet {}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlet({})", self.0.id)
    }
}

/// Who waits for an answer, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Where the answer goes.
    pub(crate) outlet: Outlet,
    /// What it answers.
    pub(crate) question: Question,
}

impl Asker {
    /// Answers.
    pub(crate) fn answer(&self, outcome: Outcome) {
        self.outlet.push(Outbound::Answer {
            question: self.question,
            outcome,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPERSEDED: Outbound = Outbound::Superseded { session: 1 };

    #[test]
    fn what_is_queued_comes_out_in_order_and_rings_once() {
        let outlet = Outlet::new();
        outlet.clone().push(SUPERSEDED);
        assert!(outlet.bell().take());
        outlet.push(Outbound::Overloaded);
        assert!(!outlet.bell().take(), "it rang when it was empty");
        assert_eq!(outlet.take(), [SUPERSEDED, Outbound::Overloaded]);
        assert_eq!(outlet.take(), []);
        outlet.push(SUPERSEDED);
        assert!(outlet.bell().take());
    }

    #[test]
    fn who_is_shut_out_is_told_why_behind_what_was_queued() {
        for (shut, why) in [
            (Outlet::shut as fn(&Outlet), Outbound::Overloaded),
            (Outlet::relink, Outbound::Relinked),
        ] {
            let outlet = Outlet::new();
            outlet.push(SUPERSEDED);
            assert!(!outlet.is_shut());
            shut(&outlet);
            assert!(outlet.is_shut());
            assert_eq!(outlet.take(), [SUPERSEDED, why]);
        }
    }

    #[test]
    fn a_closed_outlet_keeps_nothing() {
        let outlet = Outlet::new();
        outlet.push(SUPERSEDED);
        assert!(!outlet.is_closed());
        outlet.close();
        assert!(outlet.is_closed());
        outlet.push(SUPERSEDED);
        assert_eq!(outlet.take(), []);
    }

    #[test]
    fn outlets_are_the_same_only_if_they_are_one_queue() {
        let outlet = Outlet::new();
        assert_eq!(outlet, outlet.clone());
        assert_ne!(outlet, Outlet::new());
    }
}
