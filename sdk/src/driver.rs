//! The one future that does the client's network I/O. It decides nothing: it tells the
//! [engine](crate::core) what happened, and does what the engine says.

use std::{pin::Pin, sync::Arc};

use holdfast_protocol::time::Time;
use holdfast_transport::{
    Ending,
    wire::{Incoming, Wire, goodbye},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    committer::Committer,
    core::{Engine, EngineConfig, Input, Output, Restored},
    counter::{Counter, Notice},
    dial::{Dialled, Dialler},
    state::{Board, State},
};

/// What was dialled or asked, under way.
type Errand = Pin<Box<dyn Future<Output = Dialled> + Send>>;

/// How many notices are taken at a time.
const NOTICES: usize = 256;

/// Everything a client does in the background.
pub(crate) struct Driver {
    engine: Engine,
    /// The engine's time starts here.
    origin: Instant,
    parts: Parts,
    /// What has happened and is to be told to the engine.
    inputs: Vec<Input>,
    /// Notices on their way to become inputs.
    heard: Vec<Notice>,
    errand: Option<Errand>,
    wire: Option<Wire>,
    /// Everything that was queued is to leave before anything is read.
    flushing: bool,
}

/// What a driver works with.
pub(crate) struct Parts {
    pub(crate) dialler: Dialler,
    pub(crate) counter: Counter,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) board: Arc<Board>,
    pub(crate) committer: Committer,
}

impl Driver {
    pub(crate) fn new(config: EngineConfig, restored: Restored, parts: Parts) -> Self {
        Self {
            engine: Engine::new(config, restored, Time::ZERO),
            origin: parts.board.origin(),
            parts,
            inputs: Vec::new(),
            heard: Vec::new(),
            errand: None,
            wire: None,
            flushing: false,
        }
    }

    /// Runs until the app closes the client, or the storage fails.
    pub(crate) async fn run(mut self) {
        loop {
            match self.obey() {
                None => self.listen().await,
                Some(Said::More(input)) => self.inputs.push(input),
                Some(Said::Stopped(state)) => return self.parts.stop(state).await,
            }
            if let Some(wire) = &self.wire {
                self.engine.set_backlog(wire.backlog());
            }
            let now = Time::at(self.origin.elapsed());
            self.engine.handle_all(now, self.inputs.drain(..));
            self.parts.board.set_radio(*self.engine.radio());
        }
    }

    /// Does what the engine says, until it says nothing more or there is something to tell it.
    fn obey(&mut self) -> Option<Said> {
        while let Some(output) = self.engine.poll() {
            let Some(output) = self.parts.counter.tell(output) else {
                continue;
            };
            if let Some(said) = self.carry_out(output) {
                return Some(said);
            }
        }
        None
    }

    fn carry_out(&mut self, output: Output) -> Option<Said> {
        match output {
            Output::Dial { stop, hello } => {
                self.errand = Some(Box::pin(self.parts.dialler.dial(&stop, hello)));
            }
            Output::Rebind => self.parts.dialler.rebind(),
            Output::Ask(address) => self.errand = Some(Box::pin(self.parts.dialler.ask(address))),
            Output::Abandon => self.errand = None,
            Output::Store(job) => self.parts.committer.store(job),
            Output::Shut => self.parts.committer.stop(),
            Output::Stopped(state) => return Some(Said::Stopped(state)),
            output => return self.speak(output),
        }
        None
    }

    /// Says something to the relay.
    fn speak(&mut self, output: Output) -> Option<Said> {
        let wire = self.wire.as_mut()?;
        match output {
            Output::Control(bytes) => wire.control(bytes),
            Output::Bulk(frame) => wire.bulk(frame),
            Output::Datagram(ping) => {
                if let Err(error) = wire.datagram(ping) {
                    self.wire = None;
                    let why = format!("a ping could not be sent: {error}");
                    return Some(Said::More(Input::Ended(Ending::Lost(why))));
                }
            }
            Output::Flush => self.flushing = true,
            Output::Close(violation) => {
                wire.close(&violation);
                self.wire = None;
            }
            _ => {}
        }
        None
    }

    /// Waits for what happens next.
    async fn listen(&mut self) {
        let deadline = self.engine.deadline();
        let due = deadline.map(|due| self.origin + due.since_origin());
        let input = tokio::select! {
            dialled = errand(&mut self.errand) => self.arrive(dialled),
            input = hear(&mut self.wire, &mut self.flushing) => input,
            () = self.parts.dialler.send_failed() => Input::SendFailed,
            1.. = self.parts.notices.recv_many(&mut self.heard, NOTICES) => return self.take_notices(),
            () = sleep_until(due.unwrap_or(self.origin)), if due.is_some() => Input::Timeout,
        };
        self.inputs.push(input);
    }

    fn take_notices(&mut self) {
        let counter = &mut self.parts.counter;
        let notices = self.heard.drain(..);
        self.inputs
            .extend(notices.map(|notice| counter.take(notice)));
    }

    fn arrive(&mut self, dialled: Dialled) -> Input {
        match dialled {
            Dialled::Relay(wire) => {
                if let Some(former) = self.wire.replace(*wire) {
                    former.close(&goodbye());
                }
                self.flushing = false;
                Input::Connected
            }
            Dialled::Allocator(allocation) => Input::Allocated(allocation),
            Dialled::Nobody(failure) => Input::DialFailed(failure),
        }
    }
}

/// What came of doing what the engine said.
enum Said {
    /// This is to be told to it.
    More(Input),
    /// It has ended.
    Stopped(State),
}

impl Parts {
    /// Ends everything.
    async fn stop(self, state: State) {
        self.dialler.close().await;
        self.board.publish(state);
    }
}

/// Waits for what was dialled or asked; for ever, if nothing was. Cancel safe.
async fn errand(errand: &mut Option<Errand>) -> Dialled {
    match errand {
        Some(dialling) => {
            let dialled = dialling.await;
            *errand = None;
            dialled
        }
        None => std::future::pending().await,
    }
}

/// Waits for what the relay says, and writes meanwhile; for ever, if there is none. Cancel safe.
async fn hear(connected: &mut Option<Wire>, flushing: &mut bool) -> Input {
    let Some(wire) = connected else {
        return std::future::pending().await;
    };
    let heard = if *flushing {
        wire.flush().await.map(|()| Input::Flushed)
    } else {
        wire.next().await.map(|incoming| match incoming {
            Incoming::Control(bytes) => Input::Control(bytes),
            Incoming::Bulk(bytes) => Input::Bulk(bytes),
            Incoming::Datagram(bytes) => Input::Datagram(bytes),
        })
    };
    *flushing = false;
    heard.unwrap_or_else(|ending| {
        *connected = None;
        Input::Ended(ending)
    })
}
