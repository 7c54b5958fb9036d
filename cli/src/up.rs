//! `holdfast up`: a whole Holdfast on this machine, until it is told to stop.

use std::time::Duration;

use clap::Args;
use holdfast_certs::Identity;
use holdfast_relay::Limits;
use time::OffsetDateTime;

use crate::{
    command::Folder,
    failure::Failure,
    fleet::{self, Fleet},
    layout::Layout,
    output, pki,
    plan::Plan,
    stop::Stop,
};

/// How many relays there are unless another number is asked for.
const DEFAULT_RELAYS: u8 = 2;

/// Who gets a certificate: a person with two devices, and somebody else.
const DEVICES: [(&str, &str); 3] = [("alice", "pc"), ("alice", "phone"), ("bob", "phone")];

/// Run a whole Holdfast on this machine
///
/// An authority, an allocator and some relays, in this one process, on the loopback address, with
/// certificates for alice/pc, alice/phone and bob/phone. Everything is kept in the folder: started
/// again, it goes on where it was, however it ended. Ctrl-C stops it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast up
  holdfast up --dir /tmp/try --relays 3")]
pub(crate) struct Arguments {
    #[command(flatten)]
    folder: Folder,
    /// How many relays [default: as many as there were; 2 the first time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    relays: Option<u8>,
}

/// Runs until it is told to stop.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let layout = arguments.folder.layout();
    let _lock = layout.lock()?;
    let (plan, left_out) = plan(&layout, arguments.relays)?;
    pki::prepare(&layout, &identities(&plan)?, OffsetDateTime::now_utc())?;
    let limits = Limits {
        // Here every relay stops at once: there is nowhere to go.
        drain: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut fleet = Fleet::start(&layout, &plan.with_free_ports(), limits).await?;
    let outcome = tokio::select! {
        outcome = serve(&mut fleet, &layout, &left_out) => outcome,
        () = stop.asked() => Ok(()),
    };
    output::note("stopping");
    tokio::select! {
        () = fleet.shutdown() => outcome,
        () = stop.asked() => Err(Failure::Interrupted),
    }
}

async fn serve(fleet: &mut Fleet, layout: &Layout, left_out: &Plan) -> Result<(), Failure> {
    let mut plan = fleet.plan();
    plan.relays.extend(left_out.relays.iter().cloned());
    plan.save(layout)?;
    fleet.ready().await?;
    output::result(&welcome(layout, &fleet.plan()))?;
    fleet.failed().await;
    Err(Failure::SocketFailed)
}

/// What is to run, and what is known and not to run.
fn plan(layout: &Layout, asked: Option<u8>) -> Result<(Plan, Plan), Failure> {
    let known = Plan::find(layout)?;
    let before = known
        .as_ref()
        .map_or(DEFAULT_RELAYS.into(), |plan| plan.relays.len());
    let relays = asked.map_or(before, usize::from);
    let mut plan = known.unwrap_or(Plan::new(0));
    plan.grow(relays);
    let left_out = Plan {
        allocator: plan.allocator,
        relays: plan.relays.split_off(relays),
    };
    if let (Some(first), Some(last)) = (left_out.relays.first(), left_out.relays.last()) {
        let names = match left_out.relays.len() {
            1 => format!("{} stays", first.name),
            _ => format!("{} to {} stay", first.name, last.name),
        };
        output::warning(&format!(
            "{names} away. Mail of accounts at home there waits, and so does what is sent to them, \
             until `up --relays {before}`."
        ));
    }
    Ok((plan, left_out))
}

fn identities(plan: &Plan) -> Result<Vec<Identity>, Failure> {
    let mut identities = fleet::identities(plan)?;
    for (account, device) in DEVICES {
        identities.push(Identity::device(account, device)?);
    }
    Ok(identities)
}

fn welcome(layout: &Layout, plan: &Plan) -> String {
    let bold = |text: &str| console::style(text).bold().to_string();
    let mut lines = vec![
        bold(&format!("Holdfast is up in {}", layout.dir().display())),
        String::new(),
        format!("  allocator  {}", plan.allocator),
    ];
    for post in &plan.relays {
        let address = post.listen.to_string();
        lines.push(format!(
            "  relay {:<4} {address:<17} http://{}/metrics  /health",
            post.name, post.admin
        ));
    }
    lines.extend([
        String::new(),
        "Try, in other terminals:".to_owned(),
        String::new(),
    ]);
    lines.extend(suggestions(layout));
    lines.extend([
        String::new(),
        "Ready. Ctrl-C stops it; mail that waits is kept, and so is everything else.".to_owned(),
    ]);
    lines.join("\n")
}

fn suggestions(layout: &Layout) -> Vec<String> {
    let (program, dir) = (output::program(), layout.flag());
    let tries = [
        ("listen", "--as alice/phone", ""),
        ("send", "--as alice/pc --to alice/phone", " \"hello\""),
        (
            "send",
            "--as alice/pc --to alice/phone",
            " --file README.md --wait delivered",
        ),
        (
            "send",
            "--as alice/pc --to alice --key bookmarks --retain",
            " \"[]\"",
        ),
        ("allow", "--as bob/phone", " alice"),
        ("send", "--as alice/pc --to bob/phone", " \"hello, bob\""),
    ];
    let line = |(command, who, what): (&str, &str, &str)| {
        format!("  {program} {command} {who}{dir}{what}")
    };
    tries.map(line).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plan: &Plan) -> Vec<&str> {
        plan.relays.iter().map(|post| post.name.as_str()).collect()
    }

    #[test]
    fn relays_stay_as_many_as_they_were_unless_asked() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let decide = |asked| plan(&layout, asked).unwrap();
        assert_eq!(names(&decide(None).0), ["r1", "r2"]);
        Plan::new(3).save(&layout).unwrap();
        assert_eq!(names(&decide(None).0), ["r1", "r2", "r3"]);
        assert_eq!(names(&decide(Some(4)).0), ["r1", "r2", "r3", "r4"]);
        let (fewer, left_out) = decide(Some(1));
        assert_eq!(
            (names(&fewer), names(&left_out)),
            (vec!["r1"], vec!["r2", "r3"])
        );
    }
}
