//! What a server takes of its machine, seen from outside: its processor time and memory in `/proc`, and
//! what it says itself in its metrics.

use std::{
    fmt, fs,
    net::SocketAddr,
    process,
    time::{Duration, Instant},
};

use holdfast_tests::scrape;
use rustix::param::clock_ticks_per_second;

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

    /// The processor time that it has used, in the kernel and outside (proc(5): `utime`, `stime`), to
    /// a hundredth of a second.
    pub(crate) fn cpu(self) -> Result<Duration, Problem> {
        let stat = self.read("stat")?;
        let ticks = ticks(&stat).ok_or_else(|| self.unusable("no `utime` in its `stat`"))?;
        let seconds = ticks as f64 / clock_ticks_per_second() as f64;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// What it holds in memory, in bytes (proc(5): `VmRSS`).
    pub(crate) fn resident(self) -> Result<u64, Problem> {
        let status = self.read("status")?;
        let kib =
            resident_kib(&status).ok_or_else(|| self.unusable("no `VmRSS` in its `status`"))?;
        Ok(kib * 1024)
    }

    fn read(self, name: &str) -> Result<String, Problem> {
        let text = fs::read_to_string(format!("/proc/{}/{name}", self.id));
        text.map_err(|error| self.unusable(error))
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

/// Both times of a process. Its name may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line?.split_whitespace().next()?.parse().ok()
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
    fn times_and_memory_are_read_whatever_the_process_is_called() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 4 0 1 2 3";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("17 (cat) S 1"), None);
        let status = "Name:\tcat\nVmHWM:\t    900 kB\nVmRSS:\t     812 kB\n";
        assert_eq!(resident_kib(status), Some(812));
    }

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
    fn a_process_that_is_not_there_is_named() {
        let problem = Process::new(u32::MAX).unwrap_err().to_string();
        assert!(problem.contains("4294967295"), "{problem}");
    }
}
