//! The counter between the app and the engine: what app and storage say becomes the engine's input,
//! and what the engine says reaches whoever waits for it.

use std::{collections::HashMap, sync::Arc};

use holdfast_protocol::id::Name;
use tokio::sync::{mpsc, oneshot};

use crate::{
    committer::Appended,
    core::{Input, Loaded, Mark, Output, Source},
    receipt::Receipts,
    received::{Event, Received},
    state::Board,
};

/// What the app and the storage tell the driver.
///
/// Each is bounded by something other than the queue: appended bodies by permits, reads by one per
/// lane, marks and what the app does with messages by the relay's windows, and requests by the tasks
/// of the app that wait for them.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A message is in the outbox.
    Appended(Appended),
    /// Messages were read from the outbox.
    Loaded(Loaded),
    /// A mark is on disk.
    Marked(Mark),
    /// A page of the logbook is on disk.
    Begun { page: u64 },
    /// The app is done with a message.
    Done {
        source: Source,
        seq: u64,
        reply: oneshot::Sender<()>,
    },
    /// The app has let go of a message without being done.
    Dropped { source: Source, seq: u64 },
    /// The app changes the list of allowed senders.
    Allow {
        account: Name,
        allowed: bool,
        reply: oneshot::Sender<()>,
    },
    /// The app went to the background, or came to the foreground.
    Background(bool),
    /// The device is in another network.
    Network(Option<String>),
    /// The device is in no network.
    NetworkLost,
    /// The app wants a relay now.
    Reconnect,
    /// The app closes the client.
    Close,
    /// The storage failed.
    Failed(String),
    /// The thread that writes has ended; nothing more comes from it.
    Ended,
}

/// Who of the app waits for what.
#[derive(Debug)]
pub(crate) struct Counter {
    receipts: Receipts,
    done: HashMap<(Source, u64), oneshot::Sender<()>>,
    allowing: HashMap<u32, oneshot::Sender<()>>,
    next_tag: u32,
    board: Arc<Board>,
    /// For what the app is handed: the way back.
    notices: mpsc::UnboundedSender<Notice>,
    /// To the app; as long as the relay's windows, because it gives nothing back before it takes.
    events: mpsc::UnboundedSender<Event>,
}

impl Counter {
    pub(crate) fn new(
        board: Arc<Board>,
        notices: mpsc::UnboundedSender<Notice>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            receipts: Receipts::new(),
            done: HashMap::new(),
            allowing: HashMap::new(),
            next_tag: 0,
            board,
            notices,
            events,
        }
    }

    /// Keeps who waits, and says what the engine is to know.
    pub(crate) fn take(&mut self, notice: Notice) -> Input {
        match notice {
            Notice::Appended(appended) => self.appended(appended),
            Notice::Loaded(loaded) => Input::Loaded(loaded),
            Notice::Marked(mark) => Input::Marked(mark),
            Notice::Begun { page } => Input::Begun { page },
            Notice::Done { source, seq, reply } => {
                self.done.insert((source.clone(), seq), reply);
                Input::Done { source, seq }
            }
            Notice::Dropped { source, seq } => Input::Dropped { source, seq },
            Notice::Allow {
                account,
                allowed,
                reply,
            } => {
                let tag = self.next_tag;
                self.next_tag = tag.wrapping_add(1);
                self.allowing.insert(tag, reply);
                Input::Allow {
                    tag,
                    account,
                    allowed,
                }
            }
            Notice::Background(background) => Input::Background(background),
            Notice::Network(name) => Input::Network { name },
            Notice::NetworkLost => Input::NetworkLost,
            Notice::Reconnect => Input::Reconnect,
            Notice::Close => Input::Close,
            Notice::Failed(why) => Input::StorageFailed(why),
            Notice::Ended => Input::StorageEnded,
        }
    }

    /// Tells whoever an output is for; hands back what is not for the app.
    pub(crate) fn tell(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Show {
                source,
                deliver,
                body,
            } => {
                let received = Received::new(source, deliver, body, self.notices.clone());
                self.show(Event::Message(received));
            }
            Output::Gap { missed } => self.show(Event::Gap { missed }),
            Output::Remembered { source, seq } => reply(self.done.remove(&(source, seq))),
            Output::Allowed { tag } => reply(self.allowing.remove(&tag)),
            Output::Answered {
                lane,
                seq,
                outcome,
                last,
            } => self.receipts.resolve(lane, seq, outcome, last),
            Output::GivenUp { lane, seq } => self.receipts.give_up(lane, seq),
            Output::State(state) => self.board.publish(state),
            Output::Welcomed(welcome) => self.board.set_max_body(welcome.max_body as usize),
            Output::Observed(observation) => self.board.observe(observation),
            other => return Some(other),
        }
        None
    }

    fn appended(&mut self, appended: Appended) -> Input {
        let Appended {
            lane, entry, fate, ..
        } = appended;
        self.receipts.expect(lane, entry.seq, fate);
        Input::Appended { lane, entry }
    }

    fn show(&self, event: Event) {
        // Fails only while the client is being dropped; what it holds then counts as dropped.
        let _ = self.events.send(event);
    }
}

fn reply(waiting: Option<oneshot::Sender<()>>) {
    if let Some(waiting) = waiting {
        // Fails only if nobody waits any more.
        let _ = waiting.send(());
    }
}
