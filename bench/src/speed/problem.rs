//! Why something cannot be measured, said so that the reader knows what to do.

use std::{io, path::PathBuf, time::Duration};

use holdfast::{ConnectError, Outcome, Refusal, SendError, Unsent};

/// Why something cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file or a socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The folder holds no authority that could issue certificates.
    #[error(
        "{}: {source}; name the folder of the deployment's authority, with its key, with --credentials",
        folder.display()
    )]
    Authority {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: holdfast_certs::Error,
    },
    /// A certificate cannot be made.
    #[error("a certificate for {uri} cannot be made: {source}")]
    Certificate {
        /// For whom.
        uri: String,
        /// What went wrong.
        source: rcgen::Error,
    },
    /// A daemon of the stack did not start.
    #[error("the {name} does not start: {why}")]
    NotStarted {
        /// Which one.
        name: &'static str,
        /// What it said.
        why: String,
    },
    /// A client cannot be made.
    #[error("the client {name}: {source}")]
    Client {
        /// Whose.
        name: String,
        /// What went wrong.
        source: ConnectError,
    },
    /// A client found no relay.
    #[error(
        "{name} has no session after {} s ({state}): is the allocator's address right, and the \
         authority that of the deployment?",
        after.as_secs()
    )]
    NotAttached {
        /// Which client.
        name: String,
        /// How long it tried.
        after: Duration,
        /// How it stands.
        state: String,
    },
    /// A client does not take a message.
    #[error("a message could not be sent: {0}")]
    Send(#[from] SendError),
    /// The relay does not take a message.
    #[error("a message was not taken: {0}")]
    Unsent(#[from] Unsent),
    /// A message came to another end than it should.
    #[error("a message was {0:?}, which nobody asked for")]
    Outcome(Outcome),
    /// The relay refuses a message.
    #[error("a message was refused: {0}")]
    Refused(Refusal),
    /// A device that remembers nothing could not begin.
    #[error("a device that remembers nothing could not begin: {0}")]
    Lean(String),
    /// A device that remembers nothing came to its end.
    #[error("a device lost its relay; with --lean it does not look for another")]
    Lost,
    /// Something did not come.
    #[error("{what} did not come within {} s", after.as_secs())]
    Silent {
        /// What.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// A process cannot be looked at.
    #[error(
        "the process {pid} cannot be looked at: {why}; name a relay's on this machine with --pid"
    )]
    Process {
        /// Its id.
        pid: u32,
        /// What is wrong.
        why: String,
    },
    /// There may not be as many sockets.
    #[error(
        "so many clients need {needed} open files, and {allowed} are allowed: allow more with \
         `ulimit -n {needed}`"
    )]
    Files {
        /// How many are needed.
        needed: u64,
        /// How many may be open.
        allowed: u64,
    },
    /// The bare forwarder failed.
    #[error("the bare forwarder: {0}")]
    Forwarder(String),
    /// A part of the measurement was cut short.
    #[error("the measurement was cut short: {0}")]
    CutShort(#[from] tokio::task::JoinError),
}

impl Problem {
    /// What went wrong with a file or a socket.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// What went wrong with the bare forwarder.
    pub(crate) fn forwarder(error: impl std::fmt::Display) -> Self {
        Self::Forwarder(error.to_string())
    }
}
