//! What goes wrong: said so that the reader knows what to do, and with an exit code that a script
//! can go by.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use holdfast::{ConnectError, Device, Outcome, Refusal, SendError};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "{} holds no Holdfast: start one with `{up}`, or name another folder with --dir",
        dir.display()
    )]
    NothingHere { dir: PathBuf, up: String },
    #[error(
        "another `holdfast up` runs in {}: stop that one first, or give this one a folder of its \
         own with --dir",
        dir.display()
    )]
    AlreadyUp { dir: PathBuf },
    #[error(
        "{}: {why}; mend it, or remove it and let `holdfast up` write a new one",
        path.display()
    )]
    Plan { path: PathBuf, why: String },
    #[error(
        "there is no certificate for {device} in {}; {there}. To make one: holdfast-certs issue \
         device {device} --dir {}",
        pki.display(),
        pki.display()
    )]
    NoIdentity {
        device: Device,
        pki: PathBuf,
        there: String,
    },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    #[error("the signals cannot be heard: {0}")]
    Signals(io::Error),
    #[error("certificates: {0}")]
    Certificates(#[from] holdfast_certs::Error),
    #[error("the allocator: {0}")]
    Allocator(#[from] holdfast_allocator::BindError),
    #[error("the relay {name}: {source}")]
    Relay {
        name: String,
        source: holdfast_relay::BindError,
    },
    #[error("the relay {name} has no lease after {} s; run with -v to see why", after.as_secs())]
    NoLease { name: String, after: Duration },
    #[error("the allocator's socket failed; run with -v to see why")]
    SocketFailed,
    #[error(
        "{device} is in use by another process: is a `holdfast listen --as {device}` running? Stop \
         it, or use another device"
    )]
    DeviceInUse { device: Device },
    #[error(transparent)]
    Connect(ConnectError),
    #[error(transparent)]
    Send(SendError),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("{}", lost(*.0))]
    Lost(Outcome),
    #[error(
        "no answer within {}: {why} The message stays in the outbox of {device}, and leaves with \
         its next `send` or `listen`.",
        humantime::format_duration(*.after)
    )]
    Unanswered {
        after: Duration,
        why: String,
        device: Device,
    },
    #[error(
        "not delivered within {}: it is stored, and reaches {to} when it is back",
        humantime::format_duration(*.after)
    )]
    Undelivered { after: Duration, to: String },
    #[error(
        "not confirmed within {}: {why} Then say it again.",
        humantime::format_duration(*.after)
    )]
    Unconfirmed { after: Duration, why: String },
    #[error("{got} of {wanted} messages came within {}", humantime::format_duration(*.after))]
    Incomplete {
        got: u64,
        wanted: u64,
        after: Duration,
    },
    #[error("{0}")]
    Detached(String),
    #[error("interrupted")]
    Interrupted,
    #[error("{0}")]
    Demo(String),
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Bench(#[from] holdfast_bench::speed::Problem),
}

impl Failure {
    /// 1 refused or failed, 2 asked wrongly, 3 no answer in time, 130 interrupted (128 + SIGINT, as
    /// shells have it).
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::NothingHere { .. } | Self::NoIdentity { .. } | Self::Plan { .. } => 2,
            Self::Send(SendError::Storage(_) | SendError::Closed) => 1,
            Self::Send(_) => 2,
            Self::Unanswered { .. }
            | Self::Undelivered { .. }
            | Self::Unconfirmed { .. }
            | Self::Incomplete { .. } => 3,
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// What went wrong with a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }

    /// Whether nobody is left to read what is printed: no reason to complain.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn lost(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Expired => "not delivered: its time to live ended while it waited",
        Outcome::Replaced => "not delivered: a newer message of the same key took its place",
        Outcome::Stored | Outcome::Delivered => "not lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_can_tell_a_refusal_from_a_mistake_and_from_silence() {
        let device: Device = "alice/pc".parse().unwrap();
        let after = Duration::from_secs(10);
        let why = String::new();
        assert_eq!(Failure::Refused(Refusal::NotAllowed).code(), 1);
        assert_eq!(Failure::Lost(Outcome::Expired).code(), 1);
        assert_eq!(Failure::Send(SendError::BadRetain).code(), 2);
        assert_eq!(Failure::Send(SendError::Closed).code(), 1);
        let silent = Failure::Unanswered { after, why, device };
        assert_eq!(silent.code(), 3);
        assert!(silent.to_string().contains("stays in the outbox"));
    }
}
