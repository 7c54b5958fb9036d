//! What a device's app writes down as it goes, in a file that a kill cannot take back: a line for each
//! step, appended at once. From the journals of all, the rig makes its book afterwards.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use holdfast::Lane;

use super::ledger::{Key, Ledger};

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The app was started.
    Run,
    /// It is about to send a message of this length.
    Intend(Key, usize),
    /// `send` has returned.
    Sent(Key),
    /// The message was answered.
    Answered(Key),
    /// The message was refused, as none should be.
    Refused(Key),
    /// A message of this length came, as it was sent.
    Seen(Key, usize),
    /// A message came and is not as it was sent.
    Wrong(Key),
    /// `done` has returned.
    Done(Key),
    /// Every message of this run has an answer, the last included.
    Farewell,
}

impl Step {
    fn line(self) -> String {
        let key = |key: Key| format!("{} {} {}", key.sender, key.recipient, key.number);
        match self {
            Self::Run => "run\n".to_owned(),
            Self::Intend(at, len) => format!("intend {} {len}\n", key(at)),
            Self::Sent(at) => format!("sent {}\n", key(at)),
            Self::Answered(at) => format!("answered {}\n", key(at)),
            Self::Refused(at) => format!("refused {}\n", key(at)),
            Self::Seen(at, len) => format!("seen {} {len}\n", key(at)),
            Self::Wrong(at) => format!("wrong {}\n", key(at)),
            Self::Done(at) => format!("done {}\n", key(at)),
            Self::Farewell => "farewell\n".to_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers = rest.split(' ').map_while(|number| number.parse().ok());
        let numbers: Vec<u32> = numbers.collect();
        let key = || {
            Some(Key {
                sender: u16::try_from(*numbers.first()?).ok()?,
                recipient: u16::try_from(*numbers.get(1)?).ok()?,
                number: *numbers.get(2)?,
            })
        };
        let len = || Some(*numbers.get(3)? as usize);
        Some(match word {
            "run" => Self::Run,
            "intend" => Self::Intend(key()?, len()?),
            "sent" => Self::Sent(key()?),
            "answered" => Self::Answered(key()?),
            "refused" => Self::Refused(key()?),
            "seen" => Self::Seen(key()?, len()?),
            "wrong" => Self::Wrong(key()?),
            "done" => Self::Done(key()?),
            "farewell" => Self::Farewell,
            _ => return None,
        })
    }
}

/// An app's hand.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Goes on with a journal.
    pub fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path);
        Self(file.expect("a journal"))
    }

    /// Writes down a step: in one call, so that it is there or not.
    pub fn note(&self, step: Step) {
        let written = (&self.0).write_all(step.line().as_bytes());
        written.expect("room for a journal");
    }
}

/// All that stands in a journal.
pub fn read(path: &Path) -> Vec<Step> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(Step::parse).collect()
}

/// Makes the book from the journals.
#[derive(Debug)]
pub struct Clerk {
    journals: Vec<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    path: PathBuf,
    sending: usize,
    receiving: usize,
    /// What the app saw since it was started.
    run: HashSet<Key>,
    /// What it saw at all.
    seen: HashSet<Key>,
    done: HashSet<Key>,
}

impl Clerk {
    /// Begins with these journals.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let begin = |path| Progress {
            path,
            ..Progress::default()
        };
        Self {
            journals: paths.into_iter().map(begin).collect(),
        }
    }

    /// Enters what is new. Whoever has seen something was sent it before, so what was seen is read
    /// first, and entered last.
    pub fn catch_up(&mut self, ledger: &Ledger) {
        let received: Vec<_> = self.journals.iter().map(|j| read(&j.path)).collect();
        for journal in &mut self.journals {
            let steps = read(&journal.path);
            steps[journal.sending..]
                .iter()
                .for_each(|step| send(ledger, *step));
            journal.sending = steps.len();
        }
        for (journal, steps) in self.journals.iter_mut().zip(received) {
            let new = &steps[journal.receiving..];
            new.iter().for_each(|step| journal.receive(ledger, *step));
            journal.receiving = steps.len();
        }
    }

    /// Whether every app has said farewell since it was last started.
    pub fn all_said_farewell(&self) -> bool {
        let said = |journal: &Progress| {
            let mut last = read(&journal.path).into_iter().rev();
            let last = last.find(|step| matches!(step, Step::Run | Step::Farewell));
            last == Some(Step::Farewell)
        };
        self.journals.iter().all(said)
    }
}

fn send(ledger: &Ledger, step: Step) {
    match step {
        Step::Intend(key, len) => ledger.expect(key, len),
        Step::Sent(key) => ledger.taken(key),
        Step::Answered(key) => ledger.told(key, Ok(holdfast::Outcome::Stored)),
        Step::Refused(key) => ledger.wrong(format!("{key:?} was refused")),
        _ => {}
    }
}

impl Progress {
    /// An app that was killed before `done` returned may see a message again, and does not count it
    /// as another one. If `done` has returned, or it was not killed, it may not.
    fn receive(&mut self, ledger: &Ledger, step: Step) {
        match step {
            Step::Run => self.run.clear(),
            Step::Seen(key, len) => {
                let may_come = self.run.insert(key) && !self.done.contains(&key);
                if self.seen.insert(key) || !may_come {
                    ledger.seen(key, Lane::for_body(len));
                }
            }
            Step::Wrong(key) => ledger.wrong(format!("{key:?} came as other bytes")),
            Step::Done(key) => {
                self.done.insert(key);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        sender: 3,
        recipient: 1,
        number: 7,
    };

    /// How often an app got more than it should, by its journal.
    fn twice(steps: &[Step]) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (writer, ledger) = (Writer::open(&path), Ledger::new(1));
        writer.note(Step::Intend(KEY, 100));
        steps.iter().for_each(|step| writer.note(*step));
        let mut clerk = Clerk::new(vec![path]);
        clerk.catch_up(&ledger);
        clerk.catch_up(&ledger);
        ledger.verdict().twice
    }

    #[test]
    fn a_message_may_come_again_only_to_an_app_that_was_killed_before_done_returned() {
        let seen = Step::Seen(KEY, 100);
        assert_eq!(twice(&[Step::Run, seen, Step::Run, seen]), 0);
        assert_eq!(twice(&[Step::Run, seen, seen]), 1);
        assert_eq!(
            twice(&[Step::Run, seen, Step::Done(KEY), Step::Run, seen]),
            1
        );
    }

    #[test]
    fn what_is_in_the_outbox_is_owed() {
        let ledger = Ledger::new(1);
        for (step, owed) in [
            (Step::Intend(KEY, 100), 0),
            (Step::Sent(KEY), 1),
            (Step::Answered(KEY), 1),
        ] {
            assert_eq!(Step::parse(step.line().trim_end()), Some(step));
            send(&ledger, step);
            assert_eq!(ledger.owed(&[KEY.recipient]), owed);
        }
        ledger.seen(KEY, Lane::Message);
        assert_eq!(ledger.owed(&[KEY.recipient]), 0);
        assert_eq!(ledger.verdict().answered, 1);
    }
}
