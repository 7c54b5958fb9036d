//! What goes into an engine, and what comes out.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use holdfast_protocol::{
    allocation::Allocation,
    close::Violation,
    frame::Encoded,
    heartbeat::Observation,
    id::{Lane, Name},
    message::{Deliver, Outcome, RelayAddress, Welcome},
};
use holdfast_transport::Ending;

use super::{
    failure::Failure,
    inbox::{Mark, Source},
    itinerary::Stop,
    logbook::Logbook,
    outbox::{Entry, Load, Loaded},
    surroundings::KnownNetwork,
};
use crate::State;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The connection of [`Output::Dial`] is there, its control stream is open, and the hello is on its
    /// way. It takes the place of an earlier one.
    Connected,
    /// What [`Output::Dial`] or [`Output::Ask`] wanted has failed.
    DialFailed(Failure),
    /// The answer to [`Output::Ask`].
    Allocated(Allocation),
    /// Bytes of the control stream.
    Control(Bytes),
    /// A whole stream of its own; in the order in which the relay opened them.
    Bulk(Bytes),
    /// A datagram.
    Datagram(Bytes),
    /// Everything of before [`Output::Flush`] has left.
    Flushed,
    /// The connection has ended.
    Ended(Ending),
    /// A message of the app's is in the outbox, durably. Of each lane in the order of the numbers.
    Appended {
        /// Its lane.
        lane: Lane,
        /// The message.
        entry: Entry,
    },
    /// What [`Job::Load`] asked for.
    Loaded(Loaded),
    /// What [`Job::Mark`] asked for is durable.
    Marked(Mark),
    /// The page of [`Job::Begin`] is durable.
    Begun {
        /// Its number.
        page: u64,
    },
    /// The storage failed; the client stops.
    StorageFailed(String),
    /// The storage is shut, and will say nothing more.
    StorageEnded,
    /// The app is done with a message; answered by [`Output::Remembered`].
    Done {
        /// Where it came from.
        source: Source,
        /// Its number.
        seq: u64,
    },
    /// The app has let go of a message without being done.
    Dropped {
        /// Where it came from.
        source: Source,
        /// Its number.
        seq: u64,
    },
    /// The app changes the list of allowed senders; answered by [`Output::Allowed`].
    Allow {
        /// The caller's name for this change.
        tag: u32,
        /// Who.
        account: Name,
        /// May they?
        allowed: bool,
    },
    /// The app went to the background, or came to the foreground.
    Background(bool),
    /// The device is in another network, or has another address in the same one.
    Network {
        /// What the app calls it.
        name: Option<String>,
    },
    /// The device is in no network.
    NetworkLost,
    /// A packet could not be sent; it counts as lost. May be told for every such packet.
    SendFailed,
    /// The app wants a relay now.
    Reconnect,
    /// The app closes the client.
    Close,
    /// The [deadline](super::Engine::deadline) has come.
    Timeout,
}

impl Input {
    /// How many bytes of payload came over the air with it, as far as that is known; `None` for what
    /// comes from the device itself.
    pub(super) fn air_bytes(&self) -> Option<usize> {
        match self {
            Self::Control(bytes) | Self::Bulk(bytes) | Self::Datagram(bytes) => Some(bytes.len()),
            Self::Connected | Self::Allocated(_) => Some(0),
            _ => None,
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to this relay and open the control stream with this: [`Input::Connected`] or
    /// [`Input::DialFailed`]. A connection that stands is used meanwhile.
    Dial {
        /// Where.
        stop: Stop,
        /// The first words; may be sent before the relay has answered (0-RTT).
        hello: Bytes,
    },
    /// Exchange the sockets for new ones: the connections move with them.
    Rebind,
    /// Ask this allocator where to connect: [`Input::Allocated`] or [`Input::DialFailed`].
    Ask(SocketAddr),
    /// Give up what is being dialled or asked.
    Abandon,
    /// Write this to the control stream.
    Control(Bytes),
    /// Open a unidirectional stream, write this and finish it; streams in the order of the outputs.
    Bulk(Encoded),
    /// Send this datagram.
    Datagram(Bytes),
    /// Let everything leave that was to be written: [`Input::Flushed`].
    Flush,
    /// Close the connection; nothing is heard from it any more.
    Close(Violation),
    /// Change or read the storage.
    Store(Job),
    /// Shut the storage when it has done what was asked before: [`Input::StorageEnded`].
    Shut,
    /// Show the app a message.
    Show {
        /// Where it came from.
        source: Source,
        /// Its header.
        deliver: Deliver,
        /// Its body.
        body: Bytes,
    },
    /// Tell the app of messages that will not come.
    Gap {
        /// How many.
        missed: u64,
    },
    /// The message of [`Input::Done`] will not be shown again, unless an earlier one of its source is
    /// not done.
    Remembered {
        /// Where it came from.
        source: Source,
        /// Its number.
        seq: u64,
    },
    /// The change of [`Input::Allow`] is on the home relay's disk.
    Allowed {
        /// Its tag.
        tag: u32,
    },
    /// Something became of a message.
    Answered {
        /// Its lane.
        lane: Lane,
        /// Its number.
        seq: u64,
        /// What.
        outcome: Outcome,
        /// Whether no other answer will come.
        last: bool,
    },
    /// A message is not sent any more: it was submitted, had no last answer, and is too old to be
    /// submitted again.
    GivenUp {
        /// Its lane.
        lane: Lane,
        /// Its number.
        seq: u64,
    },
    /// Where the client stands now.
    State(State),
    /// There is a session.
    Welcomed(Welcome),
    /// A ping was answered.
    Observed(Observation),
    /// The client has ended, in this state; nothing follows.
    Stopped(State),
}

impl Output {
    /// How many bytes of payload go over the air with it, as far as that is known; `None` for what
    /// stays on the device.
    pub(super) fn air_bytes(&self) -> Option<usize> {
        match self {
            Self::Control(bytes) | Self::Datagram(bytes) => Some(bytes.len()),
            Self::Bulk(frame) => Some(frame.len()),
            Self::Dial { hello, .. } => Some(hello.len()),
            Self::Ask(_) | Self::Close(_) => Some(0),
            _ => None,
        }
    }
}

/// What outputs are collected in.
pub(crate) type Outputs = VecDeque<Output>;

/// What the storage is to do. Changes are made in the order of the jobs, and read in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Take a message out of the outbox.
    Forget {
        /// Its lane.
        lane: Lane,
        /// Its number.
        seq: u64,
    },
    /// Write a mark: [`Input::Marked`], once it is durable.
    Mark(Mark),
    /// Take out the mark of a source.
    Unmark(Source),
    /// Write the logbook: [`Input::Begun`], once it is durable. What is put into the outbox after
    /// this bears the number of its last page.
    Begin(Logbook),
    /// There is no session: what is put into the outbox after this bears the number of the page after
    /// the last one.
    Pause,
    /// Remember where an allocator said to connect.
    Remember(Vec<RelayAddress>),
    /// Remember what was learned of networks.
    Learn(Vec<KnownNetwork>),
    /// Read from the outbox: [`Input::Loaded`].
    Load(Load),
}

impl Job {
    /// Whether it must be on the disk at once. The removal of an answered message is not worth a sync
    /// of its own: if it is undone by a crash, the message is sent again, and the relay knows it by
    /// its number. A mark whose removal is undone is removed again.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Mark(_) | Self::Begin(_) | Self::Remember(_) => true,
            Self::Forget { .. }
            | Self::Unmark(_)
            | Self::Pause
            | Self::Learn(_)
            | Self::Load(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_the_device_goes_over_no_air() {
        assert_eq!(Input::Timeout.air_bytes(), None);
        assert_eq!(Output::Rebind.air_bytes(), None);
        let ask = Output::Ask("192.0.2.9:9".parse().unwrap());
        assert_eq!(ask.air_bytes(), Some(0), "it wakes the radio");
        let ping = Bytes::from_static(&[0; 20]);
        assert_eq!(Output::Datagram(ping.clone()).air_bytes(), Some(20));
        assert_eq!(Input::Datagram(ping).air_bytes(), Some(20));
    }
}
