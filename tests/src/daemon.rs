//! A relay as a process of its own, to be killed, frozen and started again.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use holdfast_relay::Config;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::net::within;

/// A relay's process.
pub struct Daemon {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
    seen: Vec<String>,
}

impl Daemon {
    /// Starts one and waits until it listens. `binary` is `relay-under-test`.
    pub async fn start(binary: &Path, config: &Config) -> Self {
        let mut child = Command::new(binary)
            .arg("--config")
            .arg(write(config))
            .env("NO_COLOR", "1")
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let stderr = child.stderr.take().expect("its log");
        let log = BufReader::new(stderr).lines();
        let address = config.listen;
        let mut daemon = Self {
            child,
            log,
            address,
            seen: Vec::new(),
        };
        let started = daemon.logged("started").await;
        let address = started.split("address=").nth(1).expect("an address");
        daemon.address = address
            .split_whitespace()
            .next()
            .and_then(|a| a.parse().ok())
            .expect("one");
        daemon
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a line of its log.
    pub async fn logged(&mut self, text: &str) -> String {
        let reading = async {
            while let Some(line) = self.log.next_line().await.expect("its log") {
                self.seen.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
            panic!("{text:?} was not logged: {:#?}", self.seen);
        };
        within(text, reading).await
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

/// Writes a configuration as an operator would.
fn write(config: &Config) -> PathBuf {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let addresses: Vec<String> = config
        .allocators
        .iter()
        .map(|a| format!("\"{a}\""))
        .collect();
    let credentials = &config.credentials;
    let text = format!(
        "listen = \"{}\"\nadmin = \"127.0.0.1:0\"\ndata = {}\nallocators = [{}]\n\n\
         [credentials]\ncertificate = {}\nkey = {}\nauthority = {}\n\n\
         [limits]\nping_grace = \"{}ms\"\ndrain = \"{}ms\"\n",
        config.listen,
        quoted(&config.data),
        addresses.join(", "),
        quoted(&credentials.certificate),
        quoted(&credentials.key),
        quoted(&credentials.authority),
        config.limits.ping_grace.as_millis(),
        config.limits.drain.as_millis(),
    );
    let path = config.data.with_extension("toml");
    fs::write(&path, text).expect("written");
    path
}
