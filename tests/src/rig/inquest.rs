//! What can be found out about messages that were promised and have not come, while all who took part
//! still stand where they stood: what the relays count, what they said of their links, and, once they
//! are gone, what lies in their stores.

use std::path::Path;

use crate::{daemon::Daemon, rig::role::Program, scrape};

/// How many lines of a relay's log are of interest: those about its links and sessions, the last ones.
const LINES: usize = 12;

/// What a relay that runs says of itself.
pub async fn of_relay(name: &str, relay: &Daemon) -> Vec<String> {
    let mut findings = Vec::new();
    if let Some(admin) = relay.admin_address() {
        let (_, metrics) = scrape::get(admin, "/metrics").await;
        let counted = ["sessions", "links", "superseded", "mailbox_bytes"].map(|name| {
            let prefix = format!("holdfast_relay_{name}");
            let lines = metrics
                .lines()
                .filter(move |line| line.starts_with(&prefix));
            lines.map(|line| line["holdfast_relay_".len()..].to_owned())
        });
        let counted: Vec<String> = counted.into_iter().flatten().collect();
        findings.push(format!("{name} counts {}", counted.join(", ")));
    }
    let log = relay.log();
    let told = log.iter().filter(|line| is_telling(line));
    let told: Vec<_> = told.map(|line| format!("{name} said {line}")).collect();
    findings.extend_from_slice(&told[told.len().saturating_sub(LINES)..]);
    findings
}

/// What lies in the store of a relay that is gone, by mailbox.
pub async fn of_store(name: &str, data: &Path) -> Vec<String> {
    let mut recover = Program::Own.command();
    recover
        .args(["recover", "--dry-run", "--config"])
        .arg(data.with_extension("toml"));
    let said = recover.output().await.expect("a relay's program").stdout;
    let said = String::from_utf8_lossy(&said);
    let mailboxes = said
        .lines()
        .filter(|line| line.contains('/') && line.starts_with(' '));
    mailboxes
        .map(|line| format!("{name} keeps {}", line.trim()))
        .collect()
}

fn is_telling(line: &str) -> bool {
    let about = ["link", "started", "phone", "WARN", "ERROR"];
    about.iter().any(|word| line.contains(word))
}
