//! The second connection that is dialled beside the first, which goes on serving until the second is
//! welcomed. There are two occasions:
//!
//! - The first may have lost its path. QUIC moves a connection to another path and goes on, if the path
//!   works at all; but after an outage it repeats what was lost ever more seldom, and a full window keeps
//!   everything new back. So when a ping is not answered in time, another connection is dialled, and
//!   whichever answers first is kept.
//! - The relay is stopping, and has named successors. Then one of them is dialled, and the first
//!   connection is left, however well it works.

use std::{mem, time::Duration};

use holdfast_protocol::time::Time;

use super::{itinerary::Stop, session::Session};

/// The shortest wait for an answer.
const LEAST: Duration = Duration::from_millis(500);

/// What is taken for the round trip before one was measured.
const FIRST_GUESS: Duration = Duration::from_millis(200);

/// The rival of one session.
#[derive(Debug, Default)]
pub(crate) enum Rival {
    /// There is none.
    #[default]
    None,
    /// It is dialled at this time, unless the session is heard of before.
    Due(Time),
    /// It is being dialled.
    Dialling {
        /// Where.
        stop: Stop,
        /// What it is to become.
        session: Box<Session>,
    },
}

impl Rival {
    /// The path is in doubt, and a ping under way: how long its answer may take.
    pub(crate) fn doubt(&mut self, now: Time, round_trip: Option<Duration>) {
        if !self.is_dialling() {
            let patience = (3 * round_trip.unwrap_or(FIRST_GUESS)).max(LEAST);
            *self = Self::Due(now + patience);
        }
    }

    /// It is to be dialled at a time, or before, if it was to be before.
    pub(crate) fn schedule(&mut self, at: Time) {
        if !self.is_dialling() {
            *self = Self::Due(self.due().map_or(at, |due| due.min(at)));
        }
    }

    /// Whether it is being dialled.
    pub(crate) fn is_dialling(&self) -> bool {
        matches!(self, Self::Dialling { .. })
    }

    /// When it is to be dialled.
    pub(crate) fn due(&self) -> Option<Time> {
        match self {
            Self::Due(at) => Some(*at),
            _ => None,
        }
    }

    /// The session has been heard of. Whether the rival is to be given up.
    pub(crate) fn answered(&mut self) -> bool {
        mem::take(self).is_dialling()
    }
}
