//! A link between two relays. A relay dials those that it needs (it is their *edge*); each link
//! carries the messages, and serves the devices, of accounts that are at home on the other side.
//!
//! - [`edge`]: this side passes on, and serves devices for, another relay; [`backlog`]: what it has
//!   to pass on;
//! - [`home`]: this side is the home, another relay passes on to it.

mod backlog;
pub(crate) mod edge;
pub(crate) mod home;

use std::collections::VecDeque;

use bytes::Bytes;
use holdfast_protocol::{
    close::Violation,
    frame::{self, Encoded, FrameReader, Header, RawFrame},
    id::Lane,
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_HEADER},
};

use super::end::Outgoing;

/// The longest unidirectional stream of a link, in bytes.
pub(crate) const MAX_BULK_STREAM: usize = MAX_HEADER + MAX_BULK_BODY;

/// What either end reads and writes: frames, until one of them is wrong.
#[derive(Debug)]
struct Frames {
    reader: FrameReader,
    outgoing: VecDeque<Outgoing>,
    is_closed: bool,
}

impl Frames {
    fn new() -> Self {
        Self {
            reader: FrameReader::new(MAX_CONTROL_PAYLOAD),
            outgoing: VecDeque::new(),
            is_closed: false,
        }
    }

    /// Takes bytes of the control stream.
    fn read(&mut self, bytes: Bytes) {
        if !self.is_closed {
            self.reader.push(bytes);
        }
    }

    /// The next frame that was read.
    fn next(&mut self) -> Option<RawFrame> {
        if self.is_closed {
            return None;
        }
        self.reader.next().unwrap_or_else(|violation| {
            self.close(violation);
            None
        })
    }

    /// The frame on a stream of its own.
    fn whole(&mut self, bytes: Bytes) -> Option<RawFrame> {
        if self.is_closed {
            return None;
        }
        let frame = RawFrame::whole(bytes, MAX_BULK_STREAM);
        frame.map_err(|violation| self.close(violation)).ok()
    }

    fn write(&mut self, lane: Lane, frame: Encoded) {
        if !self.is_closed {
            self.outgoing.extend(Outgoing::in_lane(lane, frame));
        }
    }

    fn say<H: Header>(&mut self, header: &H) {
        self.write(Lane::Message, bare(header));
    }

    fn close(&mut self, violation: Violation) {
        if !self.is_closed {
            self.is_closed = true;
            self.outgoing.push_back(Outgoing::Close(violation));
        }
    }

    fn close_on_violation(&mut self, handled: Result<(), Violation>) {
        if let Err(violation) = handled {
            self.close(violation);
        }
    }
}

/// A frame without a body.
fn bare<H: Header>(header: &H) -> Encoded {
    Encoded {
        head: frame::encode(header),
        body: Bytes::new(),
    }
}
