//! The command itself: its exit code, its words, and the signals that stop it.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::{Site, site::FOR_EVER, told};

/// Writes a configuration with paths relative to its own folder.
fn write_config(site: &Site, identity: &str) -> PathBuf {
    site.files(&identity.replace('/', ":"));
    let path = site.path().join("allocator.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndata = \"data\"\n[credentials]\n\
         certificate = \"{identity}.pem\"\nkey = \"{identity}.key\"\n\
         authority = \"authority.pem\"\nrevoked = \"revoked.crl\"\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-allocator"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Whether it ended well, and what it said.
async fn outcome(arguments: &[&str]) -> (bool, String) {
    let output = timeout(FOR_EVER, command(arguments).output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}

#[tokio::test]
async fn it_checks_a_configuration_and_starts_nothing() {
    let site = Site::new();
    let path = write_config(&site, "allocator/a1");
    let (good, said) = outcome(&["--config", path.to_str().unwrap(), "--check"]).await;
    assert!(good, "{said}");
    assert!(!site.path().join("data").exists());
}

#[tokio::test]
async fn it_says_why_it_does_not_start() {
    let site = Site::new();
    let path = write_config(&site, "relay/r1");
    let path = path.to_str().unwrap();
    let (good, said) = outcome(&["--config", path]).await;
    assert!(!good);
    assert!(
        said.contains("credentials.certificate is for relay/r1"),
        "{said}"
    );
    let (good, said) = outcome(&["--config", path, "--check"]).await;
    assert!(!good && said.contains("holdfast-certs issue"), "{said}");
    let (good, said) = outcome(&["--config", "nowhere.toml"]).await;
    assert!(!good && said.contains("nowhere.toml"), "{said}");
    let (good, said) = outcome(&[]).await;
    assert!(!good && said.contains("--config"), "{said}");
}

/// A daemon that listens, and the rest of what it says.
struct Daemon {
    child: Child,
    address: SocketAddr,
    log: Lines<BufReader<ChildStderr>>,
}

impl Daemon {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = next_line_with(&mut log, "listening").await;
        let (_, address) = line.split_once("address=").unwrap();
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        Self {
            child,
            address,
            log,
        }
    }

    /// Sends a signal, and waits until it has stopped cleanly.
    async fn stop(mut self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.unwrap().success());
        next_line_with(&mut self.log, "stopped").await;
        let status = timeout(FOR_EVER, self.child.wait()).await.unwrap();
        assert!(status.unwrap().success());
    }
}

/// The next line that holds `text`.
async fn next_line_with(log: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let search = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains(text) {
                return line;
            }
        }
        panic!("it never said {text}");
    };
    timeout(FOR_EVER, search).await.unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn it_serves_until_a_signal_and_remembers() {
    let site = Site::new();
    let path = write_config(&site, "allocator/a1");
    let arguments = ["--config", path.to_str().unwrap()];
    let daemon = Daemon::start(&arguments).await;
    let relay = site.asker("relay:r1", daemon.address).await;
    relay.lease(&crate::lease(1)).await.unwrap();
    let phone = site.asker("device:alice/phone", daemon.address).await;
    let answer = phone.locate(None).await;
    assert_eq!(told(&answer).0.as_deref(), Some("r1"));
    daemon.stop("-TERM").await;

    let daemon = Daemon::start(&arguments).await;
    let phone = site.asker("device:alice/phone", daemon.address).await;
    assert_eq!(phone.locate(None).await, answer);
    daemon.stop("-INT").await;
}
