//! The second connection that is dialled when the first may have lost its path. QUIC moves a connection
//! to another path and goes on, if the path works at all; but after an outage it repeats what was lost
//! ever more seldom, and a full window keeps everything new back. So when a ping is not answered in
//! time, another connection is dialled beside it, and whichever answers first is kept.

use std::time::Duration;

use holdfast_protocol::time::Time;

use super::session::Session;

/// The shortest wait for an answer.
const LEAST: Duration = Duration::from_millis(500);

/// What is taken for the round trip before one was measured.
const FIRST_GUESS: Duration = Duration::from_millis(200);

/// For how long a rival that was given up may still make itself felt: its first words may have
/// reached the relay, which then ends the session that was kept.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The rival of one session.
#[derive(Debug, Default)]
pub(crate) enum Rival {
    /// There is none.
    #[default]
    None,
    /// It is dialled at this time, unless a ping is answered before.
    Due(Time),
    /// It is being dialled, to become this session.
    Dialling(Box<Session>),
    /// It was given up.
    GivenUp {
        /// When.
        at: Time,
    },
}

impl Rival {
    /// The path is in doubt, and a ping under way: how long its answer may take.
    pub(crate) fn doubt(&mut self, now: Time, round_trip: Option<Duration>) {
        if !matches!(self, Self::Dialling(_)) {
            let patience = (3 * round_trip.unwrap_or(FIRST_GUESS)).max(LEAST);
            *self = Self::Due(now + patience);
        }
    }

    /// When it is to be dialled.
    pub(crate) fn due(&self) -> Option<Time> {
        match self {
            Self::Due(at) => Some(*at),
            _ => None,
        }
    }

    /// The session has been heard of. Whether the rival is to be given up.
    pub(crate) fn answered(&mut self, now: Time) -> bool {
        match self {
            Self::Dialling(_) => {
                *self = Self::GivenUp { at: now };
                true
            }
            Self::Due(_) => {
                *self = Self::None;
                false
            }
            Self::None | Self::GivenUp { .. } => false,
        }
    }

    /// Whether it may be the rival that has taken the session's place.
    pub(crate) fn may_have_won(&self, now: Time) -> bool {
        matches!(self, Self::GivenUp { at } if now.since(*at) < AFTERMATH)
    }
}
