//! A chat between two devices, line by line.
//!
//! With `holdfast up` running in another terminal, which prints its folder (the certificates are in
//! `pki` there) and its allocator's address:
//!
//! ```text
//! cargo run -p holdfast --example chat -- holdfast-dev/pki ALLOCATOR alice/phone alice/pc
//! cargo run -p holdfast --example chat -- holdfast-dev/pki ALLOCATOR alice/pc alice/phone
//! ```
//!
//! What is written while the other one is away, or while no relay is there, arrives when it is back:
//! try to stop either chat, or `holdfast up`, and start it again.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chat is shown on the terminal"
)]

use std::{env, error::Error, io, path::Path, thread};

use holdfast::{Client, Config, CredentialFiles, Device, SendOptions, Sent, State};
use tokio::{sync::mpsc, task::JoinSet};

const USAGE: &str = "usage: chat CERTIFICATES ALLOCATOR ME YOU, \
                     for example: chat holdfast-dev/pki 127.0.0.1:4400 alice/phone alice/pc";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [certificates, allocator, me, you] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let me: Device = me.parse()?;
    let client = Client::connect(Config {
        directory: Some(env::temp_dir().join("holdfast-chat").join(me.to_string())),
        agent: "chat-example".to_owned(),
        ..Config::new(
            credentials(Path::new(certificates), &me),
            vec![allocator.parse()?],
        )
    })
    .await?;
    chat(&client, you).await?;
    client.close().await;
    Ok(())
}

/// Where `holdfast-certs` puts a device's certificate and key.
fn credentials(folder: &Path, me: &Device) -> CredentialFiles {
    let stem = folder.join("device").join(me.account.as_str());
    CredentialFiles {
        certificate: stem.join(format!("{}.pem", me.device)),
        key: stem.join(format!("{}.key", me.device)),
        authority: folder.join("authority.pem"),
        revoked: None,
    }
}

/// Until the input ends.
async fn chat(client: &Client, you: &str) -> Result<(), Box<dyn Error>> {
    let mut lines = lines();
    let mut states = client.states();
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                let options = SendOptions { notify: true, ..SendOptions::default() };
                let sent = client.send(you, line, options).await?;
                under_way.spawn(follow(sent));
            }
            received = client.next() => {
                let Some(message) = received else { return Ok(()) };
                println!("{}: {}", message.sender(), String::from_utf8_lossy(message.body()));
                message.done().await?;
            }
            Some(state) = states.changed() => match state {
                State::Attached { relay } => eprintln!("· attached to {relay}"),
                State::Waiting { why, .. } | State::Refused { why, .. } => eprintln!("· {why}"),
                state => eprintln!("· {state:?}"),
            },
            Some(news) = under_way.join_next() => eprintln!("· {}", news?),
        }
    }
}

async fn follow(sent: Sent) -> String {
    match sent.delivered().await {
        Ok(outcome) => format!("{} {outcome:?}", sent.id()),
        Err(error) => format!("{}: {error}", sent.id()),
    }
}

/// The lines of the standard input. Reading them blocks, so a thread does.
fn lines() -> mpsc::Receiver<String> {
    let (read, lines) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if read.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
