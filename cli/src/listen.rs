//! `holdfast listen`: what comes, as it comes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use holdfast::{Client, Detached, Device, Event, Lane, MessageId, Received, Sender, State, States};
use ring::digest::{SHA256, digest};
use tokio::time::{sleep, timeout};

use crate::{command::Folder, device, failure::Failure, output, stop::Stop};

/// How long the search for a relay may take before the user is told.
const QUIET: Duration = Duration::from_millis(500);

/// Print messages as they come
///
/// Each is acknowledged once it is printed: it is not printed twice, and one that was not printed
/// comes again. Where the device stands is told on standard error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast listen --as alice/phone
  holdfast listen --as alice/phone --count 1 --for 30s --json | jq -r .text
  holdfast listen --as alice/phone --out received

Exit codes: 0 when --count came or --for is over; 3 when --for is over and --count did not come;
130 when interrupted before --count came.")]
pub(crate) struct Arguments {
    /// The device that listens
    #[arg(long = "as", value_name = "ACCOUNT/DEVICE")]
    device: Device,
    /// Stop after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time, for example 10s
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    span: Option<Duration>,
    /// Save bodies that are no text, or long, in this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print one JSON object a line: id, from, key, retained, accepted, size, and text or base64
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: Folder,
}

/// Listens until there is enough.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    if let Some(folder) = &arguments.out {
        fs::create_dir_all(folder).map_err(Failure::file(folder))?;
    }
    let client = device::open(&arguments.folder.layout(), &arguments.device).await?;
    let mut got = 0;
    let outcome = tokio::select! {
        outcome = receive(&client, &arguments, &mut got) => outcome,
        failure = follow(client.states()) => Err(failure),
        () = over(arguments.span) => Ok(()),
        () = stop.asked() => match arguments.count {
            Some(_) => Err(Failure::Interrupted),
            None => Ok(()),
        },
    };
    client.close().await;
    outcome.and_then(|()| enough(&arguments, got))
}

fn enough(arguments: &Arguments, got: u64) -> Result<(), Failure> {
    match (arguments.count, arguments.span) {
        (Some(wanted), Some(after)) if got < wanted => {
            Err(Failure::Incomplete { got, wanted, after })
        }
        _ => Ok(()),
    }
}

async fn over(span: Option<Duration>) {
    match span {
        Some(span) => sleep(span).await,
        None => std::future::pending().await,
    }
}

/// Prints, and only then acknowledges.
async fn receive(client: &Client, arguments: &Arguments, got: &mut u64) -> Result<(), Failure> {
    let wanted = arguments.count.unwrap_or(u64::MAX);
    while *got < wanted {
        let message = match client.next_event().await {
            Some(Event::Message(message)) => message,
            Some(Event::Gap { missed }) => {
                output::warning(&format!(
                    "{missed} messages passed their time to live, and will not come"
                ));
                continue;
            }
            // Why is told by the state that the client is in.
            None => std::future::pending().await,
        };
        show(&message, arguments)?;
        *got += 1;
        let done = message.done().await;
        done.map_err(|closed| Failure::Detached(closed.to_string()))?;
    }
    Ok(())
}

/// Tells where the client stands; returns when it does not go on by itself. A search that succeeds
/// or fails at once is not told.
async fn follow(mut states: States) -> Failure {
    let mut told = None;
    loop {
        let state = states.current();
        if let Some(failure) = ended(&state) {
            return failure;
        }
        let may_pass = matches!(state, State::Connecting { .. });
        if may_pass && timeout(QUIET, states.changed()).await.is_ok() {
            continue;
        }
        if is_news(told.as_ref(), &state) {
            output::note(&output::standing(&state));
            told = Some(state);
        }
        states.changed().await;
    }
}

fn is_news(told: Option<&State>, state: &State) -> bool {
    match (told, state) {
        // One more attempt, as was to be expected.
        (Some(State::Waiting { .. }), State::Connecting { .. }) => false,
        (told, state) => told.map(output::standing) != Some(output::standing(state)),
    }
}

fn ended(state: &State) -> Option<Failure> {
    let why = match state {
        State::Failed { why } => why.clone(),
        State::Superseded => Detached::Superseded.to_string(),
        State::Closed => "the client was closed".to_owned(),
        _ => return None,
    };
    Some(Failure::Detached(why))
}

fn show(message: &Received, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.json {
        return output::result(&json(message));
    }
    let content = match (legible(message), &arguments.out) {
        (Some(text), _) => text.to_owned(),
        (None, Some(folder)) => format!("saved as {}", save(message, folder)?.display()),
        (None, None) => summary(message.body()),
    };
    output::result(&line(message, &content, SystemTime::now()))
}

fn line(message: &Received, content: &str, now: SystemTime) -> String {
    let at = console::style(moment(message.accepted_at(), now)).dim();
    let from = console::style(message.sender()).cyan();
    match message.key() {
        Some(key) => {
            let key = console::style(format!("[{}]", key.escape_debug())).yellow();
            format!("{at}  {from}  {key}  {content}")
        }
        None => format!("{at}  {from}  {content}"),
    }
}

/// The time of the day, with the day if it is not within the last 24 hours. UTC.
fn moment(at: SystemTime, now: SystemTime) -> String {
    let full = humantime::format_rfc3339_seconds(at).to_string();
    let age = now.duration_since(at).unwrap_or_default();
    match full.split_once('T') {
        Some((_, time)) if age < Duration::from_secs(24 * 3600) => time.to_owned(),
        _ => full,
    }
}

/// The body, if it is a text that a terminal may show as it is: nothing in it commands the terminal.
fn legible(message: &Received) -> Option<&str> {
    let is_short = message.lane() == Lane::Message;
    text(message.body()).filter(|_| is_short)
}

fn text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    (!text.contains(commands)).then_some(text)
}

fn summary(body: &[u8]) -> String {
    let hash = digest(&SHA256, body);
    let start: String = hash.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} bytes, SHA-256 {start}…", body.len())
}

fn save(message: &Received, folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join(file_name(message.id()));
    fs::write(&path, message.body()).map_err(Failure::file(&path))?;
    Ok(path)
}

/// The same for the same message, however often it comes.
fn file_name(id: &MessageId) -> String {
    let sender = match &id.sender {
        Sender::Device(device) => format!("{}-{}", device.account, device.device),
        Sender::Service(name) => name.to_string(),
    };
    let lane = match id.lane {
        Lane::Message => "m",
        Lane::Bulk => "b",
    };
    format!("{sender}-{:x}-{lane}{}", id.epoch, id.seq)
}

fn json(message: &Received) -> String {
    let mut object = serde_json::json!({
        "id": message.id().to_string(),
        "from": message.sender().to_string(),
        "key": message.key(),
        "retained": message.is_retained(),
        "priority": format!("{:?}", message.priority()).to_lowercase(),
        "accepted": humantime::format_rfc3339_millis(message.accepted_at()).to_string(),
        "size": message.body().len(),
    });
    match std::str::from_utf8(message.body()) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["base64"] = BASE64.encode(message.body()).into(),
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_command_the_terminal_is_shown_as_it_is() {
        assert_eq!(text("grüße,\n\tbob".as_bytes()), Some("grüße,\n\tbob"));
        assert_eq!(text(b"\x1b[2Jgone"), None);
        assert_eq!(text(b"\xff\xd8\xff"), None);
    }

    #[test]
    fn what_is_not_shown_can_be_compared() {
        // The hash of nothing, as FIPS 180-4's examples have it.
        assert_eq!(summary(b""), "0 bytes, SHA-256 e3b0c44298fc1c14…");
    }

    #[test]
    fn only_news_is_told() {
        let connecting = State::Connecting { attempt: 2 };
        let waiting = |seconds, why: &str| State::Waiting {
            retry_in: Duration::from_secs(seconds),
            why: why.to_owned(),
        };
        let attached = State::Attached {
            relay: "r1".parse().unwrap(),
        };
        assert!(is_news(None, &connecting));
        assert!(is_news(Some(&attached), &connecting));
        assert!(!is_news(Some(&waiting(1, "a")), &connecting));
        assert!(!is_news(Some(&waiting(1, "a")), &waiting(2, "a")));
        assert!(is_news(Some(&waiting(1, "a")), &waiting(1, "b")));
        assert!(is_news(Some(&waiting(1, "a")), &attached));
    }

    #[test]
    fn the_day_is_told_of_what_waited_long() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(moment(at, at + Duration::from_secs(3600)), "08:00:00Z");
        let later = at + Duration::from_secs(90_000);
        assert_eq!(moment(at, later), "2027-01-15T08:00:00Z");
        assert_eq!(moment(at, at - Duration::from_secs(1)), "08:00:00Z");
    }

    #[test]
    fn a_file_has_the_name_of_its_message() {
        let id = |lane, seq| MessageId {
            sender: Sender::Device("alice/pc".parse().unwrap()),
            epoch: 0xbee,
            lane,
            seq,
        };
        assert_eq!(file_name(&id(Lane::Bulk, 3)), "alice-pc-bee-b3");
        assert_eq!(file_name(&id(Lane::Message, 3)), "alice-pc-bee-m3");
    }
}
