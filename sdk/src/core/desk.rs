//! What is done between app, storage and relay: takes what comes from each, and hands on what the
//! others need.

use bytes::Bytes;
use holdfast_protocol::{
    client::{Event, NotNow},
    id::Lane,
    message::{Deliver, GoAway, Outcome, Receipt, Refusal, Submit},
    time::Time,
};

use super::{
    allowing::{Allowing, Change},
    engine::Restored,
    inbox::{Inbox, Mark, Source},
    logbook::Logbook,
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
    logbook: Logbook,
    /// The session's first page, until it is on the disk.
    beginning: Option<u64>,
    /// The app waits until these are remembered as done.
    waiting: Vec<(Source, u64)>,
}

impl Desk {
    pub(crate) fn new(restored: Restored) -> Self {
        Self {
            outbox: Outbox::new(restored.tails),
            inbox: Inbox::new(restored.marks),
            allowing: Allowing::default(),
            logbook: restored.logbook,
            beginning: None,
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
    }

    /// The app has let go of a message without being done.
    pub(crate) fn dropped(&mut self, source: &Source, seq: u64) {
        self.inbox.dropped(source, seq);
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
        None
    }

    /// A session has begun, with a relay whose clock shows this. Nothing is submitted before its page
    /// is on the disk.
    pub(crate) fn begin_session(&mut self, now: Time, time_ms: u64, outputs: &mut Outputs) {
        self.logbook.welcomed(now, time_ms);
        self.beginning = Some(self.logbook.page());
        outputs.push_back(Output::Store(Job::Begin(self.logbook.clone())));
        let outdated = self.inbox.begin_session(self.logbook.aged_ms()).into_iter();
        outputs.extend(outdated.map(|source| Output::Store(Job::Unmark(source))));
        self.allowing.begin_session();
    }

    /// A page is on the disk.
    pub(crate) fn begun(&mut self, page: u64) {
        if self.beginning.take_if(|awaited| *awaited == page).is_some() {
            self.outbox.begin_session(page);
        }
    }

    /// The session has ended.
    pub(crate) fn end_session(&mut self, outputs: &mut Outputs) {
        self.beginning = None;
        self.outbox.end_session();
        outputs.push_back(Output::Store(Job::Pause));
    }

    /// Hands the session what it can take.
    pub(crate) fn serve(&mut self, session: &mut Session, now: Time, outputs: &mut Outputs) {
        if self.logbook.tick(now) {
            self.inbox.set_now(self.logbook.aged_ms());
            outputs.push_back(Output::Store(Job::Begin(self.logbook.clone())));
        }
        self.acknowledge(session);
        for change in self.allowing.unsent() {
            session.allow(change.tag, change.account, change.allowed);
        }
        for lane in Lane::ALL {
            self.submit(lane, session, now, outputs);
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

    fn submit(&mut self, lane: Lane, session: &mut Session, now: Time, outputs: &mut Outputs) {
        while let Some(entry) = self.outbox.front(lane) {
            let again = self.outbox.may_repeat(lane, entry);
            if again && self.logbook.is_too_old(entry.page, now) {
                self.give_up(lane, outputs);
                continue;
            }
            if lane == Lane::Bulk && !session.has_bulk_room() {
                return;
            }
            let submit = Submit {
                seq: entry.seq,
                to: entry.to.clone(),
                options: entry.options.clone(),
                again,
            };
            match session.submit(submit, entry.body.clone()) {
                Ok(()) => self.outbox.submitted(lane),
                Err(NotNow::TooLarge { .. }) => self.refuse(lane, Refusal::TooLarge, outputs),
                Err(NotNow::WindowFull | NotNow::NotAttached) => return,
            }
        }
    }

    /// The relays may have forgotten that they have the message. Numbers may be skipped, so those
    /// behind it go on.
    fn give_up(&mut self, lane: Lane, outputs: &mut Outputs) {
        if let Some(Entry { seq, .. }) = self.outbox.pop(lane) {
            outputs.push_back(Output::GivenUp { lane, seq });
            outputs.push_back(Output::Store(Job::Forget { lane, seq }));
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

    /// Has the marks written that have moved.
    pub(crate) fn write_marks(&mut self, outputs: &mut Outputs) {
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
