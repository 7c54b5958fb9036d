//! The one future that does the client's network I/O. It only selects: between the session (or the
//! search for one) and what the app and the storage say.
//!
//! ```text
//!              found                  closed, failed
//!  searching ─────────> serving ──────────────────────> stopped
//!      ^ ^                │ │                              ^
//!      │ └─ lost, go away ┘ │ superseded                   │
//!      │                    v                              │
//!      └─── reconnect ─── parked ──────── closed, failed ──┘
//! ```

use std::{pin::pin, sync::Arc, thread};

use holdfast_protocol::message::GoAway;
use holdfast_transport::Ending;
use tokio::sync::mpsc;

use crate::{
    committer::Committer,
    desk::{Course, Desk, Input},
    search::{Found, Search, Superseded},
    session::Session,
    state::{Board, State},
};

/// Everything a client does in the background.
pub(crate) struct Driver {
    pub(crate) search: Search,
    pub(crate) desk: Desk,
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    pub(crate) board: Arc<Board>,
    pub(crate) committer: Committer,
    pub(crate) storage: thread::JoinHandle<()>,
}

/// What comes next.
enum Turn {
    Search,
    Serve(Box<Found>),
    Park,
    Stop(State, Option<Box<Session>>),
}

/// How a session came to its end.
enum End {
    Lost(Ending),
    SentAway(GoAway),
    Course(Course),
}

impl Driver {
    /// Runs until the app closes the client, or the storage fails.
    pub(crate) async fn run(mut self) {
        let mut turn = Turn::Search;
        loop {
            turn = match turn {
                Turn::Search => self.search().await,
                Turn::Serve(found) => self.serve(*found).await,
                Turn::Park => self.park().await,
                Turn::Stop(state, session) => return self.stop(state, session).await,
            };
        }
    }

    async fn search(&mut self) -> Turn {
        match self.find().await {
            Ok(Ok(found)) => Turn::Serve(Box::new(found)),
            Ok(Err(Superseded)) => Turn::Park,
            Err(course) => self.steer(course, None).await,
        }
    }

    async fn find(&mut self) -> Result<Result<Found, Superseded>, Course> {
        let mut finding = pin!(self.search.find());
        loop {
            tokio::select! {
                found = &mut finding => return Ok(found),
                input = self.inputs.recv() => hold(&mut self.desk, input)?,
            }
        }
    }

    async fn serve(&mut self, found: Found) -> Turn {
        let Found {
            mut session,
            relay,
            welcome,
        } = found;
        self.desk.begin_session();
        self.board.set_max_body(welcome.max_body as usize);
        self.board.publish(State::Attached {
            relay: relay.clone(),
        });
        let end = self.converse(&mut session).await;
        self.desk.end_session();
        match end {
            End::Lost(ending) => match self.search.lost(&relay, &ending, session.age()) {
                Ok(()) => Turn::Search,
                Err(Superseded) => Turn::Park,
            },
            End::SentAway(go_away) => {
                self.search.sent_away(&go_away.successors, session.age());
                session.leave().await;
                Turn::Search
            }
            End::Course(course) => self.steer(course, Some(Box::new(session))).await,
        }
    }

    async fn converse(&mut self, session: &mut Session) -> End {
        loop {
            self.desk.serve(session);
            tokio::select! {
                event = session.next() => match event.map(|event| self.desk.hear(event)) {
                    Ok(None) => {}
                    Ok(Some(go_away)) => return End::SentAway(go_away),
                    Err(ending) => return End::Lost(ending),
                },
                input = self.inputs.recv() => if let Err(course) = hold(&mut self.desk, input) {
                    return End::Course(course);
                }
            }
        }
    }

    async fn park(&mut self) -> Turn {
        self.board.publish(State::Superseded);
        loop {
            let input = self.inputs.recv().await;
            if let Err(course) = hold(&mut self.desk, input) {
                return self.steer(course, None).await;
            }
        }
    }

    async fn steer(&mut self, course: Course, session: Option<Box<Session>>) -> Turn {
        let state = match course {
            Course::Reconnect => {
                self.search.hurry();
                if let Some(session) = session {
                    session.leave().await;
                }
                return Turn::Search;
            }
            Course::Close => State::Closed,
            Course::Fail(why) => State::Failed { why },
        };
        Turn::Stop(state, session)
    }

    /// Ends everything. What the app was told is done is remembered and acknowledged before.
    async fn stop(mut self, state: State, session: Option<Box<Session>>) {
        self.committer.stop();
        while !self.desk.has_ended() {
            let Some(input) = self.inputs.recv().await else {
                break;
            };
            // Nothing that is said now changes the course.
            let _ = self.desk.take(input);
        }
        if let Some(mut session) = session {
            self.desk.acknowledge(&mut session);
            session.leave().await;
        }
        self.search.close().await;
        // The thread has said its last word, so this does not wait; if it panicked, it has said so.
        let _ = self.storage.join();
        self.board.publish(state);
    }
}

/// Lets the desk take an input, and goes on unless it asks for another course. That no input can come
/// any more means that the client is gone.
fn hold(desk: &mut Desk, input: Option<Input>) -> Result<(), Course> {
    input.map_or(Err(Course::Close), |input| desk.take(input))
}
