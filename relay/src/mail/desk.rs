//! What every rule needs at hand: the time, the limits, the next position, and the out-tray.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Device, Lane, Name},
    message::{Outcome, Refusal},
    time::Time,
};

use super::{
    answers::AnswerId,
    clock::Reading,
    ledger::Mark,
    message::{Header, Place, Source},
    outlet::Asker,
    policy::Rules,
    refusals::Refusals,
};

/// Now, on the machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For timers: never jumps.
    pub time: Time,
    /// For people: milliseconds since 1970-01-01 UTC.
    pub wall_ms: u64,
}

/// Now, on every clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// For timers: never jumps.
    pub(crate) time: Time,
    /// For people: milliseconds since 1970-01-01 UTC.
    pub(crate) wall_ms: u64,
    /// For whatever outlasts a restart: see [`MailClock`](super::clock::MailClock).
    pub(crate) mail_ms: u64,
}

impl Now {
    /// The day, by the clock of mail.
    pub(crate) fn today(self) -> Day {
        day_of(self.mail_ms)
    }
}

/// A day of the clock of mail: fine enough for what is remembered for months.
pub(crate) type Day = u32;

/// The day of a time by the clock of mail, in milliseconds.
pub(crate) fn day_of(mail_ms: u64) -> Day {
    Day::try_from(mail_ms / 86_400_000).unwrap_or(Day::MAX)
}

/// How many days a span covers, at least.
pub(crate) fn days(span: Duration) -> Day {
    Day::try_from(span.as_secs().div_ceil(86_400)).unwrap_or(Day::MAX)
}

/// Numbers that grow for as long as the store lives, across restarts: the boot is their upper part.
#[derive(Debug)]
pub(crate) struct Positions {
    next: u64,
}

impl Positions {
    /// Positions of one boot take this many bits; what remains numbers 16 million boots.
    const BITS: u32 = 40;

    /// The positions of a boot.
    pub(crate) fn of_boot(boot: u64) -> Self {
        Self {
            next: (boot << Self::BITS) + 1,
        }
    }

    /// The boot that a position was given in.
    pub(crate) fn boot_of(position: u64) -> u64 {
        position >> Self::BITS
    }

    /// The next one.
    pub(crate) fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// A change to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// A message, in a mailbox or retained.
    PutMessage {
        /// Where.
        place: Place,
        /// For what is retained: where it stands in the account's order.
        position: u64,
        /// The lane it came on.
        lane: Lane,
        /// What is kept besides the body.
        header: Header,
        /// The body.
        body: Bytes,
    },
    /// That message is not needed any more.
    DeleteMessage(Place),
    /// Nothing of a mailbox's lane is needed any more up to a position.
    DeleteThrough {
        /// Whose mailbox.
        device: Device,
        /// Which of its lanes.
        lane: Lane,
        /// The position of the last that is not.
        position: u64,
        /// What was stored of it, in bytes of headers and bodies, about.
        bytes: u64,
    },
    /// What is kept of a device besides its mail.
    PutDevice {
        /// Which one.
        device: Device,
        /// See [`DeviceRecord`]; `None`: it is forgotten.
        record: Option<DeviceRecord>,
    },
    /// How far a source's messages have come.
    PutMark {
        /// Which account's.
        account: Name,
        /// Whose mailbox; `None`: what the account retains.
        device: Option<Name>,
        /// The source.
        source: Source,
        /// How far; `None`: it is forgotten.
        mark: Option<Mark>,
    },
    /// Which of a source's messages an account has refused.
    PutRefusals {
        /// Which account.
        account: Name,
        /// The source.
        source: Source,
        /// Which, and why; `None`: they are forgotten.
        refusals: Option<Refusals>,
    },
    /// What the clock of mail shows. Of no account.
    PutReading(Reading),
    /// May an account's devices write to this one's?
    PutAllowed {
        /// Whose list.
        account: Name,
        /// Who.
        sender: Name,
        /// May they?
        allowed: bool,
    },
}

/// What is kept of a device besides its mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct DeviceRecord {
    /// Its memory of what it received; `None` if it never attached.
    pub(crate) inbox: Option<u64>,
    /// Messages that expired since the last gap it acknowledged.
    pub(crate) missed: u64,
    /// When it was attached last, or written to first; 0: not noted yet.
    pub(crate) seen: Day,
}

/// What a commit made durable, so that those who wait for it can be answered. Changes without one
/// of these may be taken back by a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// A message in a mailbox.
    Stored {
        /// Whose mailbox.
        device: Name,
        /// Which lane.
        lane: Lane,
        /// Its position.
        position: u64,
    },
    /// A message that waited has come to an end other than delivery.
    Ended {
        /// Who waits.
        answer: AnswerId,
        /// The end.
        outcome: Outcome,
        /// Whether it was on disk before.
        was_safe: bool,
    },
    /// A change to what the account retains.
    Retained {
        /// The position of the message that brought it.
        position: u64,
    },
    /// Refusals of a source's messages.
    Refusals {
        /// The source.
        source: Source,
        /// Which: see [`RefusalBook::take_unwritten`](super::refusals::RefusalBook).
        number: u64,
    },
    /// That a device has joined.
    Joined {
        /// Which one.
        device: Name,
    },
    /// A change to the list of allowed senders.
    Allowed {
        /// Who.
        sender: Name,
        /// May they?
        allowed: bool,
        /// Who waits.
        asker: Asker,
    },
}

/// Reads what was stored. The rules look only at what a joining device is to be given.
pub(crate) trait Shelf {
    /// A stored body, if it is still there.
    fn body(&self, place: &Place) -> Option<Bytes>;
}

/// What happened, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages handed to an attached device without touching the disk, and acknowledged.
    pub(crate) forwarded: u64,
    /// Messages written to a mailbox.
    pub(crate) stored: u64,
    /// Messages acknowledged out of a stored mailbox.
    pub(crate) drained: u64,
    /// Messages past their time to live.
    pub(crate) expired: u64,
    /// Messages replaced by a newer one of their key.
    pub(crate) replaced: u64,
    /// Messages seen before.
    pub(crate) duplicates: u64,
    /// Messages refused.
    pub(crate) refused: Vec<Refusal>,
    /// Sessions ended by a newer one.
    pub(crate) superseded: u64,
    /// Change of the bytes waiting in all mailboxes.
    pub(crate) mailbox_bytes: i64,
}

/// What every rule needs at hand, for one call.
pub(crate) struct Desk<'a> {
    /// Now.
    pub(crate) now: Now,
    /// The limits.
    pub(crate) rules: &'a Rules,
    /// Whether the disk has no room for new mail.
    pub(crate) disk_full: bool,
    /// The next position.
    pub(crate) positions: &'a mut Positions,
    /// Bytes of bodies that are held in memory while an answer is awaited, in all mailboxes.
    pub(crate) held: &'a mut u64,
    /// What is stored.
    pub(crate) shelf: &'a dyn Shelf,
    /// The out-tray: changes to the store, applied together.
    pub(crate) writes: Vec<Write>,
    /// What can be answered when those changes are durable.
    pub(crate) durable: Vec<Durable>,
    /// What happened.
    pub(crate) tally: Tally,
}

impl<'a> Desk<'a> {
    /// A desk with an empty out-tray.
    pub(crate) fn new(
        now: Now,
        rules: &'a Rules,
        positions: &'a mut Positions,
        held: &'a mut u64,
        shelf: &'a dyn Shelf,
    ) -> Self {
        let (writes, durable, tally) = Default::default();
        Self {
            now,
            rules,
            disk_full: false,
            positions,
            held,
            shelf,
            writes,
            durable,
            tally,
        }
    }

    /// Whether another body of `bytes` may wait in memory.
    pub(crate) fn may_hold(&self, bytes: usize) -> bool {
        self.held.saturating_add(bytes as u64) <= self.rules.max_held_bytes
    }
}

/// How long an attached device's answer is awaited before its message goes to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace {
    smoothed: Duration,
}

impl Grace {
    /// Never shorter: a disk write costs more than a moment's patience.
    const MIN: Duration = Duration::from_millis(100);
    /// Never longer: the sender waits.
    const MAX: Duration = Duration::from_secs(2);

    /// Before anything was measured.
    pub(crate) fn new() -> Self {
        Self {
            smoothed: Self::MIN,
        }
    }

    /// Takes a measurement: from handing a message over to its acknowledgement. The average is the
    /// round-trip estimator of RFC 6298, section 2.
    pub(crate) fn measured(&mut self, span: Duration) {
        self.smoothed = (self.smoothed * 7 + span) / 8;
    }

    /// A few round trips.
    pub(crate) fn span(self) -> Duration {
        (self.smoothed * 4).clamp(Self::MIN, Self::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_grow_from_boot_to_boot_and_tell_theirs() {
        assert_eq!(Positions::of_boot(0).take(), 1, "0 is before all of them");
        let mut positions = Positions::of_boot(3);
        let first = positions.take();
        assert_eq!(positions.take(), first + 1);
        assert_eq!(Positions::boot_of(first), 3);
        let next = Positions::of_boot(4).take();
        assert!(next > first);
        assert_eq!(Positions::boot_of(next), 4);
    }
}
