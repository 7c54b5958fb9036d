//! A daemon as a process of its own, to be killed, frozen and started again.

use std::{
    fmt, fs, mem,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use holdfast::CredentialFiles;
use holdfast_relay::{Config, HandshakeLimits, Limits, Manners};
use parking_lot::Mutex;
use procfs::process::Process;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

use crate::net::{PATIENCE, within};

/// A daemon's process: a relay's, unless said otherwise.
pub struct Daemon {
    child: Child,
    log: Log,
    address: SocketAddr,
    /// What it says once it listens.
    ready: &'static str,
}

/// Why a daemon that was launched does not listen.
#[derive(Debug)]
pub struct NotListening {
    /// How it ended; `None` if it did not within [`PATIENCE`].
    pub status: Option<ExitStatus>,
    /// What it said.
    pub log: Vec<String>,
}

impl fmt::Display for NotListening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}: {}", self.log.join("\n")),
            None => write!(f, "no end within {PATIENCE:?}: {}", self.log.join("\n")),
        }
    }
}

impl Daemon {
    /// Starts one and waits until it listens. `binary` is `relay-under-test`.
    pub async fn start(binary: &Path, config: &Config) -> Self {
        let mut daemon = Self::launch(Command::new(binary), config);
        match daemon.listening().await {
            Ok(_) => daemon,
            Err(ended) => panic!("{ended}"),
        }
    }

    /// Starts the program of a command as a relay, and waits for nothing.
    pub fn launch(command: Command, config: &Config) -> Self {
        Self::spawn(command, &write(config), config.listen, "started")
    }

    /// Starts the program of a command as an allocator, and waits for nothing.
    pub fn launch_allocator(command: Command, config: &holdfast_allocator::Config) -> Self {
        let written = write_allocator(config);
        Self::spawn(command, &written, config.listen, "listening")
    }

    fn spawn(
        mut command: Command,
        config: &Path,
        address: SocketAddr,
        ready: &'static str,
    ) -> Self {
        let mut child = command
            .arg("--config")
            .arg(config)
            .env("NO_COLOR", "1")
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let log = Log::follow(child.stderr.take().expect("its log"));
        Self {
            child,
            log,
            address,
            ready,
        }
    }

    /// Waits until it listens, and says where.
    ///
    /// # Errors
    /// [`NotListening`] when it ends instead, or does neither within [`PATIENCE`].
    pub async fn listening(&mut self) -> Result<SocketAddr, NotListening> {
        let Ok(Some(started)) = timeout(PATIENCE, self.log.next_with(self.ready)).await else {
            return Err(self.not_listening().await);
        };
        let address = started.split("address=").nth(1).expect("an address");
        let address = address.split_whitespace().next();
        self.address = address.and_then(|a| a.parse().ok()).expect("one");
        Ok(self.address)
    }

    async fn not_listening(&mut self) -> NotListening {
        let ended = timeout(PATIENCE / 10, self.child.wait()).await;
        NotListening {
            status: ended.ok().map(|status| status.expect("a status")),
            log: self.log.lines(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a relay's metrics are, once it [listens](Self::listening).
    pub fn admin_address(&self) -> Option<SocketAddr> {
        let started = self
            .log()
            .into_iter()
            .find(|line| line.contains(self.ready));
        let started = started?;
        let address = started.split("admin=").nth(1)?.split_whitespace().next()?;
        address.parse().ok()
    }

    /// Waits for a line of its log.
    pub async fn logged(&mut self, text: &str) -> String {
        match within(text, self.log.next_with(text)).await {
            Some(line) => line,
            None => panic!("{text:?} was not logged: {:#?}", self.log.lines()),
        }
    }

    /// Waits until it ends by itself. How, and what it said.
    pub async fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        let status = within("its end", self.child.wait()).await;
        while self.log.next_with("").await.is_some() {}
        (status.expect("its end"), self.log.lines())
    }

    /// All that it has said so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Its process, unless it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it holds in memory.
    pub fn resident_bytes(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let process = Process::new(pid.cast_signed()).expect("Linux");
        let status = process.status().expect("it runs");
        1024 * status.vmrss.expect("it runs")
    }

    /// Kills it without a chance to write anything.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Asks it to stop, and tells whether it did so in order.
    pub async fn terminate(mut self) -> bool {
        self.signal("TERM").await;
        within("its end", self.child.wait())
            .await
            .expect("its end")
            .success()
    }

    /// Has it read its certificates again.
    pub async fn hang_up(&self) {
        self.signal("HUP").await;
    }

    /// Stops it in mid-breath.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on.
    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(pid)
            .status();
        assert!(sent.await.expect("kill").success());
    }
}

/// What a process writes to standard error, read as it comes, so that the pipe never fills.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// How many lines there are; closed with the log.
    count: watch::Receiver<usize>,
    /// How many have been looked at.
    seen: usize,
}

impl Log {
    fn follow(stderr: ChildStderr) -> Self {
        let (lines, (counted, count)) = (Arc::default(), watch::channel(0));
        tokio::spawn(read(stderr, Arc::clone(&lines), counted));
        Self {
            lines,
            count,
            seen: 0,
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The next line that contains the text; none when the log ends without.
    async fn next_with(&mut self, text: &str) -> Option<String> {
        loop {
            if let Some(line) = self.find(text) {
                return Some(line);
            }
            let seen = self.seen;
            if self.count.wait_for(|count| *count > seen).await.is_err() {
                return self.find(text);
            }
        }
    }

    fn find(&mut self, text: &str) -> Option<String> {
        let lines = self.lines.lock();
        let seen = mem::replace(&mut self.seen, lines.len());
        let at = lines[seen..].iter().position(|line| line.contains(text))?;
        self.seen = seen + at + 1;
        Some(lines[seen + at].clone())
    }
}

/// Ends with the process.
async fn read(stderr: ChildStderr, lines: Arc<Mutex<Vec<String>>>, count: watch::Sender<usize>) {
    let mut reader = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.lock().push(line);
        count.send_modify(|count| *count += 1);
    }
}

/// Writes a relay's configuration as an operator would.
fn write(config: &Config) -> PathBuf {
    let addresses: Vec<String> = config
        .allocators
        .iter()
        .map(|a| format!("\"{a}\""))
        .collect();
    let tickets = config.tickets.as_ref();
    let tickets = tickets.map_or_else(String::new, |path| format!("tickets = {path:?}\n"));
    let text = format!(
        "listen = \"{}\"\nadmin = \"127.0.0.1:0\"\ndata = {:?}\nallocators = [{}]\n{tickets}\n\
         {}\n{}\n{}\n[store]\ncompact_above = {}\ncompact_factor = {}\n\n{}",
        config.listen,
        config.data,
        addresses.join(", "),
        limits(&config.limits),
        sessions(&config.sessions),
        handshakes(&config.handshakes),
        config.store.compact_above,
        config.store.compact_factor,
        credentials(&config.credentials),
    );
    let path = config.data.with_extension("toml");
    fs::write(&path, text).expect("written");
    path
}

fn limits(limits: &Limits) -> String {
    let pair = |key, most: Option<u64>| {
        most.map_or_else(String::new, |most| format!("max_pair_{key} = {most}\n"))
    };
    format!(
        "[limits]\nping_grace = \"{}ms\"\ndrain = \"{}ms\"\nmax_messages = {}\nmax_bytes = {}\n{}{}\
         max_disk_fill = {:?}\ndisk_reserve = {}\n",
        limits.ping_grace.as_millis(),
        limits.drain.as_millis(),
        limits.max_messages,
        limits.max_bytes,
        pair("messages", limits.max_pair_messages.map(|most| most as u64)),
        pair("bytes", limits.max_pair_bytes),
        limits.max_disk_fill,
        limits.disk_reserve,
    )
}

fn sessions(manners: &Manners) -> String {
    format!(
        "[sessions]\nmessages_per_second = {}\nbytes_per_second = {}\n",
        manners.messages_per_second, manners.bytes_per_second,
    )
}

fn handshakes(limits: &HandshakeLimits) -> String {
    format!(
        "[handshakes]\nrate = {}\nburst = {}\n",
        limits.rate, limits.burst
    )
}

/// The same for an allocator.
fn write_allocator(config: &holdfast_allocator::Config) -> PathBuf {
    let text = format!(
        "listen = \"{}\"\ndata = {:?}\nlease = \"{}ms\"\nretry_after = \"{}ms\"\n\
         requests_per_second = {}\nrequests_burst = {}\n\n{}\n{}",
        config.listen,
        config.data,
        config.lease.as_millis(),
        config.retry_after.as_millis(),
        config.requests_per_second,
        config.requests_burst,
        handshakes(&config.handshakes),
        credentials(&config.credentials),
    );
    let path = config.data.with_extension("toml");
    fs::write(&path, text).expect("written");
    path
}

fn credentials(files: &CredentialFiles) -> String {
    let revoked = files.revoked.as_ref();
    let revoked = revoked.map_or_else(String::new, |path| format!("revoked = {path:?}\n"));
    format!(
        "[credentials]\ncertificate = {:?}\nkey = {:?}\nauthority = {:?}\n{revoked}",
        files.certificate, files.key, files.authority,
    )
}
