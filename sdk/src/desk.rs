//! What the driver does between app, storage and relay, apart from waiting: takes what comes from
//! each, and hands on what the others need. Nothing here awaits.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_protocol::{
    client::{Event as FromRelay, NotNow},
    id::Lane,
    message::{Deliver, GoAway, Outcome, Receipt, Refusal, Submit},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    allowing::{Allowing, Request},
    committer::{Appended, Committer},
    inbox::{Inbox, Mark, Source},
    outbox::{Loaded, Outbox},
    receipt::Receipts,
    received::{Event, Received},
    session::Session,
    state::Board,
};

/// What the app and the storage tell the driver.
///
/// Each is bounded by something other than the queue: appended bodies by permits, reads by one per
/// lane, marks and what the app does with messages by the relay's windows, and requests by the tasks
/// of the app that wait for them.
#[derive(Debug)]
pub(crate) enum Input {
    /// A message is in the outbox.
    Appended(Appended),
    /// Messages were read from the outbox.
    Loaded(Loaded),
    /// A mark is on disk.
    Marked(Mark),
    /// The app is done with a message.
    Done {
        source: Source,
        seq: u64,
        reply: oneshot::Sender<()>,
    },
    /// The app has let go of a message without being done.
    Dropped { source: Source, seq: u64 },
    /// The app changes the list of allowed senders.
    Allow(Request),
    /// The app wants a relay now.
    Reconnect,
    /// The app closes the client.
    Close,
    /// The storage failed.
    Failed(String),
    /// The thread that writes has ended; nothing more comes from it.
    Ended,
}

/// Another course than the driver's present one, as an input asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// Look for a relay anew.
    Reconnect,
    /// Stop: the app wants it.
    Close,
    /// Stop: the storage failed.
    Fail(String),
}

/// Somebody waits until a message is remembered as done.
#[derive(Debug)]
struct Waiter {
    source: Source,
    seq: u64,
    reply: oneshot::Sender<()>,
}

/// Everything that outlives a session.
#[derive(Debug)]
pub(crate) struct Desk {
    outbox: Outbox,
    inbox: Inbox,
    receipts: Receipts,
    allowing: Allowing,
    waiters: Vec<Waiter>,
    /// Whether the storage is shut.
    ended: bool,
    committer: Committer,
    board: Arc<Board>,
    /// For what the app is handed: the way back.
    inputs: mpsc::UnboundedSender<Input>,
    /// To the app; as long as the relay's windows, because it gives nothing back before it takes.
    events: mpsc::UnboundedSender<Event>,
}

impl Desk {
    pub(crate) fn new(
        outbox: Outbox,
        inbox: Inbox,
        committer: Committer,
        board: Arc<Board>,
        inputs: mpsc::UnboundedSender<Input>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            outbox,
            inbox,
            receipts: Receipts::new(),
            allowing: Allowing::default(),
            waiters: Vec::new(),
            ended: false,
            committer,
            board,
            inputs,
            events,
        }
    }

    /// Takes what the app or the storage says.
    ///
    /// # Errors
    /// The other course that it asks for.
    pub(crate) fn take(&mut self, input: Input) -> Result<(), Course> {
        match input {
            Input::Appended(appended) => self.appended(appended),
            Input::Loaded(loaded) => self.outbox.loaded(loaded),
            Input::Marked(mark) => self.marked(&mark),
            Input::Done { source, seq, reply } => self.done(source, seq, reply),
            Input::Dropped { source, seq } => self.inbox.dropped(&source, seq),
            Input::Allow(request) => self.allowing.add(request),
            Input::Reconnect => return Err(Course::Reconnect),
            Input::Close => return Err(Course::Close),
            Input::Failed(why) => return Err(Course::Fail(why)),
            Input::Ended => {
                self.ended = true;
                let why = "the thread that writes has ended";
                return Err(Course::Fail(why.to_owned()));
            }
        }
        self.write_marks();
        Ok(())
    }

    /// Takes what the relay says. Returns where to go, if it is stopping.
    pub(crate) fn hear(&mut self, event: FromRelay) -> Option<GoAway> {
        match event {
            FromRelay::Receipt(receipt) => self.answered(receipt),
            FromRelay::Message {
                lane,
                deliver,
                body,
            } => self.arrived(lane, deliver, body),
            FromRelay::Gap(gap) => {
                self.inbox.gap(gap.position);
                self.show(Event::Gap { missed: gap.missed });
            }
            FromRelay::Allowed(allowed) => self.allowing.answered(allowed.tag),
            FromRelay::Observed(observation) => self.board.observe(observation),
            FromRelay::GoAway(go_away) => return Some(go_away),
            FromRelay::Welcomed(_) => {}
        }
        self.write_marks();
        None
    }

    /// Whether the storage is shut, and has told everything.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
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
    pub(crate) fn serve(&mut self, session: &mut Session) {
        self.acknowledge(session);
        for request in self.allowing.unsent() {
            session.allow(request.tag, request.account.clone(), request.allowed);
        }
        for lane in Lane::ALL {
            self.submit(lane, session);
            if let Some(load) = self.outbox.load(lane) {
                self.committer.load(load);
            }
        }
    }

    /// Acknowledges what is remembered.
    pub(crate) fn acknowledge(&mut self, session: &mut Session) {
        for ack in self.inbox.take_acks() {
            session.ack(ack);
        }
    }

    fn submit(&mut self, lane: Lane, session: &mut Session) {
        while let Some(entry) = self.outbox.front(lane) {
            if lane == Lane::Bulk && !session.has_bulk_room() {
                return;
            }
            let submit = Submit {
                seq: entry.seq,
                to: entry.to.clone(),
                options: entry.options.clone(),
            };
            match session.submit(submit, entry.body.clone()) {
                Ok(()) => self.outbox.submitted(lane),
                Err(NotNow::TooLarge { .. }) => self.refuse(lane, Refusal::TooLarge),
                Err(NotNow::WindowFull | NotNow::NotAttached) => return,
            }
        }
    }

    /// The relay takes less than the one the message was measured for.
    fn refuse(&mut self, lane: Lane, refusal: Refusal) {
        if let Some(entry) = self.outbox.pop(lane) {
            let outcome = Outcome::Refused(refusal);
            self.receipts.resolve(lane, entry.seq, outcome, true);
            self.committer.forget(lane, entry.seq);
        }
    }

    fn appended(&mut self, appended: Appended) {
        let Appended {
            lane,
            entry,
            answer,
            ..
        } = appended;
        self.receipts.expect(lane, entry.seq, answer);
        self.outbox.appended(lane, entry);
    }

    fn answered(&mut self, receipt: Receipt) {
        let Receipt { lane, seq, outcome } = receipt;
        let last = self.outbox.answered(lane, seq, outcome);
        self.receipts.resolve(lane, seq, outcome, last);
        if last {
            self.committer.forget(lane, seq);
        }
    }

    fn arrived(&mut self, lane: Lane, deliver: Deliver, body: Bytes) {
        let source = Source {
            sender: deliver.from.clone(),
            epoch: deliver.epoch,
            lane,
        };
        let position = deliver.position;
        if self.inbox.arrived(position, source.clone(), deliver.seq) {
            let inputs = self.inputs.clone();
            let received = Received::new(source, deliver, body, inputs);
            self.show(Event::Message(received));
        }
    }

    fn show(&self, event: Event) {
        // Fails only while the client is being dropped; what it holds then counts as dropped.
        let _ = self.events.send(event);
    }

    fn done(&mut self, source: Source, seq: u64, reply: oneshot::Sender<()>) {
        if self.inbox.done(&source, seq) {
            self.waiters.push(Waiter { source, seq, reply });
        } else {
            // Fails only if nobody waits.
            let _ = reply.send(());
        }
    }

    fn marked(&mut self, mark: &Mark) {
        self.inbox.marked(mark);
        let covered = |waiter: &mut Waiter| waiter.source == mark.source && waiter.seq <= mark.seq;
        for waiter in self.waiters.extract_if(.., covered) {
            // Fails only if nobody waits any more.
            let _ = waiter.reply.send(());
        }
    }

    fn write_marks(&mut self) {
        for mark in self.inbox.take_due() {
            self.committer.mark(mark);
        }
    }
}
