//! `holdfast-relay recover`: what is left of a damaged store, put in its place.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use holdfast_transport::keys::EndpointKeys;

use crate::{Config, relay::KEYS, store::salvage::Salvaged};

/// Salvages what can be read of a damaged store of mail, and puts it in the store's place.
///
/// The damaged store is renamed to DATA.damaged-1 (or the next free number) and never changed.
/// The relay must not be running. Exit code 0: all mail was salvaged; 3: something is lost, and
/// the report says what is known of it; 1: nothing was done; 2: the arguments make no sense.
#[derive(Args)]
pub(crate) struct Recover {
    /// The relay's configuration, in TOML; `data` in it says where the store is.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only say what would be salvaged.
    #[arg(long)]
    dry_run: bool,
}

/// Something is lost, and said so.
const LOSSES: u8 = 3;

impl Recover {
    /// Does it, and reports on standard output.
    pub(crate) fn run(&self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let data = Config::load(&self.config)?.data;
        let mut out = io::stdout().lock();
        let salvaged = match self.dry_run {
            true => {
                let salvaged = Salvaged::of(&data)?;
                report(&mut out, &data, &salvaged)?;
                writeln!(out, "nothing was changed: this was a dry run")?;
                salvaged
            }
            false => {
                let (salvaged, aside) = Salvaged::in_place_of(&data)?;
                let kept = keep_keys(&aside, &data)?;
                report(&mut out, &data, &salvaged)?;
                if !kept {
                    writeln!(
                        out,
                        "{KEYS} is missing or damaged: the relay makes a new one"
                    )?;
                }
                writeln!(out, "the damaged store is now {}", aside.display())?;
                writeln!(
                    out,
                    "what was salvaged is in its place: the relay can be started"
                )?;
                salvaged
            }
        };
        Ok(match salvaged.report.complete {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(LOSSES),
        })
    }
}

/// The relay's own keys lie beside its mail. Without them it makes new ones, but not in place of
/// damaged ones, so those stay behind. Whether they were kept.
fn keep_keys(from: &Path, to: &Path) -> io::Result<bool> {
    let (from, to) = (from.join(KEYS), to.join(KEYS));
    match fs::copy(from, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        copied => copied?,
    };
    let sound = EndpointKeys::load_or_create(&to).is_ok();
    if !sound {
        fs::remove_file(&to)?;
    }
    Ok(sound)
}

fn report(out: &mut impl Write, data: &Path, salvaged: &Salvaged) -> io::Result<()> {
    let known = &salvaged.report;
    writeln!(out, "store     {}", data.display())?;
    writeln!(
        out,
        "salvaged  {} rows: {} messages in {} mailboxes, {} retained, {} others",
        known.salvaged,
        salvaged.messages(),
        salvaged.mailboxes.len(),
        salvaged.retained.values().sum::<u64>(),
        salvaged.others
    )?;
    for (mailbox, messages) in &salvaged.mailboxes {
        writeln!(out, "          {mailbox}: {messages}")?;
    }
    if known.complete {
        return writeln!(out, "lost      nothing");
    }
    report_losses(out, salvaged)
}

fn report_losses(out: &mut impl Write, salvaged: &Salvaged) -> io::Result<()> {
    let known = &salvaged.report;
    match known.expected {
        Some(expected) => writeln!(
            out,
            "lost      {} of the {expected} rows there were at commit {}",
            expected.saturating_sub(known.salvaged),
            known.commits.0
        )?,
        None => writeln!(out, "lost      nobody can tell how much")?,
    }
    if let (found, Some(promised)) = known.commits
        && promised > found
    {
        writeln!(
            out,
            "          what commits {} to {promised} changed",
            found + 1
        )?;
    }
    for (place, rows) in &salvaged.lost {
        writeln!(out, "          {place}: {rows} that can be named")?;
    }
    writeln!(
        out,
        "          what was delivered and deleted may have come back; devices know it again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(salvaged: &Salvaged) -> String {
        let mut out = Vec::new();
        report(&mut out, Path::new("mail"), salvaged).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn salvaged() -> Salvaged {
        Salvaged {
            mailboxes: [("alice/phone".to_owned(), 2), ("bob/pc".to_owned(), 1)].into(),
            retained: [("alice".to_owned(), 4)].into(),
            others: 5,
            ..Salvaged::default()
        }
    }

    #[test]
    fn keys_are_kept_unless_they_are_damaged() {
        let place = tempfile::tempdir().unwrap();
        let [aside, data] = ["aside", "data"].map(|name| place.path().join(name));
        for dir in [&aside, &data] {
            fs::create_dir(dir).unwrap();
        }
        assert!(!keep_keys(&aside, &data).unwrap(), "there are none");
        EndpointKeys::load_or_create(&aside.join(KEYS)).unwrap();
        assert!(keep_keys(&aside, &data).unwrap());
        let kept = [&aside, &data].map(|dir| fs::read(dir.join(KEYS)).unwrap());
        assert_eq!(kept[0], kept[1]);
        fs::write(aside.join(KEYS), "damaged").unwrap();
        assert!(!keep_keys(&aside, &data).unwrap());
        assert!(aside.join(KEYS).exists() && !data.join(KEYS).exists());
    }

    #[test]
    fn nothing_lost_is_said_in_so_many_words() {
        let mut salvaged = salvaged();
        salvaged.report.complete = true;
        salvaged.report.salvaged = 12;
        let expected = "\
store     mail
salvaged  12 rows: 3 messages in 2 mailboxes, 4 retained, 5 others
          alice/phone: 2
          bob/pc: 1
lost      nothing
";
        assert_eq!(text(&salvaged), expected);
    }

    #[test]
    fn what_is_known_of_a_loss_is_said() {
        let mut salvaged = salvaged();
        salvaged.report.salvaged = 12;
        salvaged.report.expected = Some(14);
        salvaged.report.commits = (70, Some(73));
        salvaged.lost = [("alice/phone".to_owned(), 1)].into();
        let told = text(&salvaged);
        for line in [
            "lost      2 of the 14 rows there were at commit 70\n",
            "          what commits 71 to 73 changed\n",
            "          alice/phone: 1 that can be named\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
        salvaged.report.expected = None;
        assert!(self::text(&salvaged).contains("nobody can tell"));
    }
}
