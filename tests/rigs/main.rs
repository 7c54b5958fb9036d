//! The rigs, as often as an ordinary run can bear: each as the command that it is.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails loudly, and says what it skips"
)]

use std::process::{Command, Output};

use parking_lot::Mutex;

mod bad_disk;
mod damage;
mod kill;
mod powercut;

/// Every rig wants the machine for itself.
static MACHINE: Mutex<()> = Mutex::new(());

/// How a rig ended.
struct Ended {
    code: Option<i32>,
    said: String,
}

impl Ended {
    /// What it came to.
    fn last_line(&self) -> &str {
        self.said.lines().last().unwrap_or_default()
    }

    /// The number behind a word of the last line.
    fn figure(&self, word: &str) -> u64 {
        let mut words = self.last_line().split(' ');
        words.find(|found| *found == word);
        let figure = words.next().and_then(|figure| figure.parse().ok());
        figure.unwrap_or_else(|| panic!("no {word} in the last line of: {}", self.said))
    }

    /// The number at the end of the line before the last.
    fn aside(&self) -> u64 {
        let line = self.said.lines().rev().nth(1).unwrap_or_default();
        let figure = line
            .rsplit(' ')
            .next()
            .and_then(|figure| figure.parse().ok());
        figure.unwrap_or_else(|| panic!("no figure before the last line of: {}", self.said))
    }

    /// Whether it could not run here, which it says; then the test does, too.
    fn was_skipped(&self) -> bool {
        let skipped = self.code == Some(2) && self.last_line().starts_with("skipped: ");
        if skipped {
            eprintln!("{}", self.last_line());
        }
        skipped
    }
}

/// Runs a rig.
fn run(binary: &str, arguments: &[&str]) -> Ended {
    let _machine = MACHINE.lock();
    let Output { status, stdout, .. } = Command::new(binary)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("a process");
    Ended {
        code: status.code(),
        said: String::from_utf8(stdout).expect("text"),
    }
}
