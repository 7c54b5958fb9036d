//! What a server takes of its machine, seen from outside: its processor time and memory, and what it
//! says itself in its metrics.

use std::{
    fmt,
    net::SocketAddr,
    process,
    time::{Duration, Instant},
};

use holdfast_tests::scrape;
use nix::{time::clock_getcpuclockid, unistd::Pid};
use procfs::{ProcError, process::Status};

use super::Problem;

/// A process of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    id: u32,
}

impl Process {
    /// One that runs.
    pub(crate) fn new(id: u32) -> Result<Self, Problem> {
        let process = Self { id };
        process.cpu()?;
        Ok(process)
    }

    /// This one.
    pub(crate) fn own() -> Self {
        Self { id: process::id() }
    }

    /// The processor time that it has used, in the kernel and outside, to a nanosecond
    /// (clock_getcpuclockid(3)): `/proc` counts in hundredths of a second, and a bare forwarder has
    /// a hundred messages on their way in less.
    pub(crate) fn cpu(self) -> Result<Duration, Problem> {
        let id = i32::try_from(self.id).map_err(|error| self.unusable(error))?;
        let clock = clock_getcpuclockid(Pid::from_raw(id));
        let spent = clock.and_then(|clock| clock.now());
        Ok(spent.map_err(|error| self.unusable(error))?.into())
    }

    /// What it holds in memory, in bytes (proc_pid_status(5): `VmRSS`).
    pub(crate) fn resident(self) -> Result<u64, Problem> {
        let status = self.status().map_err(|error| self.unusable(error))?;
        let kib = status.vmrss.ok_or_else(|| self.unusable("it has ended"))?;
        Ok(kib * 1024)
    }

    fn status(self) -> Result<Status, ProcError> {
        let id = self.id.try_into().map_err(|_| ProcError::NotFound(None))?;
        procfs::process::Process::new(id)?.status()
    }

    fn unusable(self, why: impl ToString) -> Problem {
        Problem::Process {
            pid: self.id,
            why: why.to_string(),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// A server, as far as it can be looked into.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Server {
    /// Its process, if it is one of this machine.
    pub(crate) process: Option<Process>,
    /// Where its metrics are, if they can be read.
    pub(crate) admin: Option<SocketAddr>,
}

/// What had been spent at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    at: Instant,
    server: Option<Duration>,
    own: Duration,
}

/// What was spent between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Time.
    pub(crate) span: Duration,
    /// The server's processor time, if it can be seen.
    pub(crate) server: Option<Duration>,
    /// The load generator's.
    pub(crate) own: Duration,
}

impl Server {
    /// What has been spent until now.
    pub(crate) fn mark(&self) -> Result<Mark, Problem> {
        Ok(Mark {
            at: Instant::now(),
            server: self.process.map(Process::cpu).transpose()?,
            own: Process::own().cpu()?,
        })
    }

    /// What it holds in memory, in bytes.
    pub(crate) fn resident(&self) -> Result<Option<u64>, Problem> {
        self.process.map(Process::resident).transpose()
    }

    /// What it says of itself under a name.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        Some(scrape::metric(self.admin?, name).await)
    }
}

impl Mark {
    /// What was spent since an earlier one.
    pub(crate) fn since(self, earlier: Self) -> Spent {
        let both = self.server.zip(earlier.server);
        Spent {
            span: self.at - earlier.at,
            server: both.map(|(now, then)| now.saturating_sub(then)),
            own: self.own.saturating_sub(earlier.own),
        }
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.span += other.span;
        self.server = match (self.server, other.server) {
            (Some(one), Some(more)) => Some(one + more),
            (one, more) => one.or(more),
        };
        self.own += other.own;
    }
}

#[cfg(test)]
mod tests {
    use holdfast_tests::net::PATIENCE;

    use super::*;

    #[test]
    fn this_process_spends_what_it_works() {
        let server = Server {
            process: Some(Process::own()),
            admin: None,
        };
        let before = server.mark().unwrap();
        let (some, mut spent) = (Duration::from_millis(30), Spent::default());
        // Both are read one after the other, and while this runs, they grow.
        while spent.own.min(spent.server.unwrap_or_default()) < some {
            spent = server.mark().unwrap().since(before);
            assert!(spent.span < PATIENCE, "{spent:?}");
        }
        assert!(server.resident().unwrap().unwrap() > 1024 * 1024);
    }

    #[test]
    fn the_least_that_it_spends_is_seen() {
        let before = Process::own().cpu().unwrap();
        assert!(Process::own().cpu().unwrap() > before);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let problem = Process::new(u32::MAX).unwrap_err().to_string();
        assert!(problem.contains("4294967295"), "{problem}");
    }
}
