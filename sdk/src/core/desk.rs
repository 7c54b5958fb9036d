//! What is done between app, storage and relay: takes what comes from each, and hands on what the
//! others need.

use bytes::Bytes;
use holdfast_protocol::{
    client::{Event, NotNow},
    id::Lane,
    message::{Deliver, GoAway, Outcome, Receipt, Refusal, Submit},
};

use super::{
    allowing::{Allowing, Change},
    inbox::{Inbox, Mark, Source},
    outbox::{Entry, Loaded, Outbox},
    session::Session,
    signal::{Job, Output, Outputs},
};

/// Everything that outlives a session.
#[derive(Debug)]
pub(crate) struct Desk {
    outbox: Outbox,
    inbox: Inbox,
    allowing: Allowing,
    /// The app waits until these are remembered as done.
    waiting: Vec<(Source, u64)>,
}

impl Desk {
    pub(crate) fn new(tails: [u64; 2], marks: Vec<Mark>) -> Self {
        Self {
            outbox: Outbox::new(tails),
            inbox: Inbox::new(marks),
            allowing: Allowing::default(),
            waiting: Vec::new(),
        }
    }

    /// A message of the app's is in the outbox.
    pub(crate) fn appended(&mut self, lane: Lane, entry: Entry) {
        self.outbox.appended(lane, entry);
    }

    /// Messages were read from the outbox.
    pub(crate) fn loaded(&mut self, loaded: Loaded) {
        self.outbox.loaded(loaded);
    }

    /// A mark is on the disk.
    pub(crate) fn marked(&mut self, mark: &Mark, outputs: &mut Outputs) {
        self.inbox.marked(mark);
        let covered =
            |(source, seq): &mut (Source, u64)| *source == mark.source && *seq <= mark.seq;
        let remembered = self.waiting.extract_if(.., covered);
        outputs.extend(remembered.map(|(source, seq)| Output::Remembered { source, seq }));
    }

    /// The app is done with a message.
    pub(crate) fn done(&mut self, source: Source, seq: u64, outputs: &mut Outputs) {
        if self.inbox.done(&source, seq) {
            self.waiting.push((source, seq));
        } else {
            outputs.push_back(Output::Remembered { source, seq });
        }
        self.write_marks(outputs);
    }

    /// The app has let go of a message without being done.
    pub(crate) fn dropped(&mut self, source: &Source, seq: u64, outputs: &mut Outputs) {
        self.inbox.dropped(source, seq);
        self.write_marks(outputs);
    }

    /// The app changes the list of allowed senders.
    pub(crate) fn allow(&mut self, change: Change) {
        self.allowing.add(change);
    }

    /// Takes what the relay says. Returns where to go, if it is stopping.
    pub(crate) fn hear(&mut self, event: Event, outputs: &mut Outputs) -> Option<GoAway> {
        match event {
            Event::Receipt(receipt) => self.answered(receipt, outputs),
            Event::Message {
                lane,
                deliver,
                body,
            } => self.arrived(lane, deliver, body, outputs),
            Event::Gap(gap) => {
                self.inbox.gap(gap.position);
                let missed = gap.missed;
                outputs.push_back(Output::Gap { missed });
            }
            Event::Allowed(allowed) => {
                let tag = allowed.tag;
                if self.allowing.answered(tag) {
                    outputs.push_back(Output::Allowed { tag });
                }
            }
            Event::Observed(observation) => outputs.push_back(Output::Observed(observation)),
            Event::GoAway(go_away) => return Some(go_away),
            Event::Welcomed(_) => {}
        }
        self.write_marks(outputs);
        None
    }

    /// A session has begun.
    pub(crate) fn begin_session(&mut self) {
        self.outbox.begin_session();
        self.inbox.begin_session();
        self.allowing.begin_session();
    }

    /// The session has ended.
    pub(crate) fn end_session(&mut self) {
        self.outbox.end_session();
    }

    /// Hands the session what it can take.
    pub(crate) fn serve(&mut self, session: &mut Session, outputs: &mut Outputs) {
        self.acknowledge(session);
        for change in self.allowing.unsent() {
            session.allow(change.tag, change.account, change.allowed);
        }
        for lane in Lane::ALL {
            self.submit(lane, session, outputs);
            if let Some(load) = self.outbox.load(lane) {
                outputs.push_back(Output::Store(Job::Load(load)));
            }
        }
    }

    /// Acknowledges what is remembered.
    pub(crate) fn acknowledge(&mut self, session: &mut Session) {
        for ack in self.inbox.take_acks() {
            session.ack(ack);
        }
    }

    fn submit(&mut self, lane: Lane, session: &mut Session, outputs: &mut Outputs) {
        while let Some(entry) = self.outbox.front(lane) {
            if lane == Lane::Bulk && !session.has_bulk_room() {
                return;
            }
            let submit = Submit {
                seq: entry.seq,
                to: entry.to.clone(),
                options: entry.options.clone(),
                again: self.outbox.may_repeat(lane, entry.seq),
            };
            match session.submit(submit, entry.body.clone()) {
                Ok(()) => self.outbox.submitted(lane),
                Err(NotNow::TooLarge { .. }) => self.refuse(lane, Refusal::TooLarge, outputs),
                Err(NotNow::WindowFull | NotNow::NotAttached) => return,
            }
        }
    }

    /// The relay takes less than the one the message was measured for.
    fn refuse(&mut self, lane: Lane, refusal: Refusal, outputs: &mut Outputs) {
        if let Some(entry) = self.outbox.pop(lane) {
            let outcome = Outcome::Refused(refusal);
            settle(lane, entry.seq, outcome, true, outputs);
        }
    }

    fn answered(&mut self, receipt: Receipt, outputs: &mut Outputs) {
        let Receipt { lane, seq, outcome } = receipt;
        let last = self.outbox.answered(lane, seq, outcome);
        settle(lane, seq, outcome, last, outputs);
    }

    fn arrived(&mut self, lane: Lane, deliver: Deliver, body: Bytes, outputs: &mut Outputs) {
        let source = Source {
            sender: deliver.from.clone(),
            epoch: deliver.epoch,
            lane,
        };
        let position = deliver.position;
        if self.inbox.arrived(position, source.clone(), deliver.seq) {
            outputs.push_back(Output::Show {
                source,
                deliver,
                body,
            });
        }
    }

    fn write_marks(&mut self, outputs: &mut Outputs) {
        let due = self.inbox.take_due().into_iter();
        outputs.extend(due.map(|mark| Output::Store(Job::Mark(mark))));
    }
}

/// Tells what became of a message; after its last answer it need not be kept.
fn settle(lane: Lane, seq: u64, outcome: Outcome, last: bool, outputs: &mut Outputs) {
    outputs.push_back(Output::Answered {
        lane,
        seq,
        outcome,
        last,
    });
    if last {
        outputs.push_back(Output::Store(Job::Forget { lane, seq }));
    }
}
