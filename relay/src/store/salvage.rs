//! What is left of a damaged store, in terms of mail.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use holdfast_durable::{Batch, Db, Options, RecoverError, Report};

use super::{
    StoreError,
    row::{self, About, Mailbox},
};
use crate::mail::desk::Positions;

/// A salvaged store goes on this many runs after the newest of which anything was found, in case
/// all that later ones wrote is lost: a position is never given twice.
const LOST_BOOTS: u64 = 1000;

/// What was salvaged, and what is known to be lost.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    /// Messages by mailbox.
    pub(crate) mailboxes: BTreeMap<String, u64>,
    /// Messages that accounts retain, by account.
    pub(crate) retained: BTreeMap<String, u64>,
    /// Rows besides.
    pub(crate) others: u64,
    /// What is lost, where it can be named: as above.
    pub(crate) lost: BTreeMap<String, u64>,
    /// What the store itself knows.
    pub(crate) report: Report,
    /// The newest run of the relay that left anything.
    pub(crate) newest_boot: u64,
}

/// Why nothing was salvaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SalvageError {
    /// The damaged store cannot be read, or the new one written.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The new store cannot be finished.
    #[error("the salvaged store cannot be finished: {0}")]
    Finish(#[from] StoreError),
    /// The new store cannot be closed.
    #[error(transparent)]
    Close(#[from] holdfast_durable::CloseError),
}

impl Salvaged {
    /// Looks through the store in `dir`, and leaves it as it is.
    pub(crate) fn of(dir: &Path) -> Result<Self, SalvageError> {
        let mut salvaged = Self::default();
        let report = holdfast_durable::examine(dir, |key, value| {
            salvaged.count(key, &value);
            Ok(())
        })?;
        Ok(salvaged.with(report))
    }

    /// Puts what is left of the store in `dir` in the place of that store. Tells where that is now.
    pub(crate) fn in_place_of(dir: &Path) -> Result<(Self, PathBuf), SalvageError> {
        let into = PathBuf::from(format!("{}.salvaged", dir.display()));
        let mut salvaged = Self::default();
        let count = |key: &[u8], value: &Bytes| salvaged.count(key, value);
        let report = holdfast_durable::recover(dir, &into, count)?;
        salvaged.skip_boots(&into)?;
        let aside = holdfast_durable::exchange(dir, &into)?;
        Ok((salvaged.with(report), aside))
    }

    /// How many messages wait, in all mailboxes.
    pub(crate) fn messages(&self) -> u64 {
        self.mailboxes.values().sum()
    }

    fn count(&mut self, key: &[u8], value: &Bytes) {
        match row::about(key) {
            Some(About::Message { mailbox, position }) => {
                self.see_boot(Positions::boot_of(position));
                *self.mailboxes.entry(name(mailbox)).or_default() += 1;
            }
            Some(About::Retained { account }) => {
                let position = row::retained_position(value);
                self.see_boot(position.map_or(0, Positions::boot_of));
                *self.retained.entry(account.to_owned()).or_default() += 1;
            }
            _ => self.others += 1,
        }
        if key == row::BOOT {
            self.see_boot(row::decode("the boot", value).unwrap_or(0));
        }
    }

    fn see_boot(&mut self, boot: u64) {
        self.newest_boot = self.newest_boot.max(boot);
    }

    fn with(mut self, report: Report) -> Self {
        for key in &report.damaged {
            let place = match row::about(key) {
                Some(About::Message { mailbox, .. }) => name(mailbox),
                Some(About::Retained { account } | About::Account { account }) => {
                    account.to_owned()
                }
                Some(About::Relay) | None => "the relay itself".to_owned(),
            };
            *self.lost.entry(place).or_default() += 1;
        }
        Self { report, ..self }
    }

    /// Makes the next run of the relay a later one than all that may have been.
    fn skip_boots(&self, into: &Path) -> Result<(), SalvageError> {
        let db = Db::open(into, Options::default()).map_err(StoreError::from)?;
        let mut batch = Batch::new();
        batch.put(row::BOOT, row::encode(&(self.newest_boot + LOST_BOOTS)));
        db.commit_blocking(batch).map_err(StoreError::from)?;
        Ok(db.close()?)
    }
}

fn name(Mailbox(account, device): Mailbox<'_>) -> String {
    format!("{account}/{device}")
}

#[cfg(test)]
mod tests {
    use holdfast_durable::Compaction;
    use holdfast_protocol::id::Lane;

    use super::*;
    use crate::{
        mail::{desk::Write, message::Place},
        store::{MailboxStore, contract, durable::DurableStore},
    };

    const BODY: &[u8] = b"the body of a message, which is easily found in a file";

    fn message(device: &str, position: u64) -> Write {
        let place = Place::Mailbox {
            device: device.parse().unwrap(),
            lane: Lane::Message,
            position,
        };
        Write::PutMessage {
            place,
            position,
            lane: Lane::Message,
            header: contract::header(Lane::Message, position),
            body: [BODY, position.to_string().as_bytes()].concat().into(),
        }
    }

    fn retained(position: u64) -> Write {
        Write::PutMessage {
            place: retained_place(),
            position,
            lane: Lane::Message,
            header: contract::header(Lane::Message, position),
            body: Bytes::from_static(b"kept"),
        }
    }

    fn retained_place() -> Place {
        Place::Retained {
            account: "alice".parse().unwrap(),
            key: "bookmarks".parse().unwrap(),
        }
    }

    /// A store of three boots with three messages for one device and one for another, and one that
    /// an account retains.
    fn store(dir: &Path) {
        for _ in 0..3 {
            let store = DurableStore::open(dir, Compaction::default()).unwrap();
            store.begin_boot().unwrap();
            store.close().unwrap();
        }
        let store = DurableStore::open(dir, Compaction::default()).unwrap();
        let messages = (1..4).map(|position| message("alice/phone", position));
        contract::commit(&store, messages.collect());
        contract::commit(&store, vec![message("bob/pc", 4), retained(5)]);
        store.close().unwrap();
    }

    /// Flips a bit of a message's body, wherever it lies in the store.
    fn damage(dir: &Path, position: u64) {
        let log = dir.join("generation-000001").join("db");
        let mut content = std::fs::read(&log).unwrap();
        let body = [BODY, position.to_string().as_bytes()].concat();
        let places: Vec<_> = content
            .windows(body.len())
            .enumerate()
            .filter_map(|(at, part)| (part == body).then_some(at))
            .collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| content[at] ^= 1);
        std::fs::write(log, content).unwrap();
    }

    #[test]
    fn what_is_not_damaged_is_salvaged_and_what_is_lost_is_named() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("mail");
        store(&dir);
        damage(&dir, 2);
        let refused = DurableStore::open(&dir, Compaction::default())
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, StoreError::Open(error) if error.is_damage()));
        let (salvaged, aside) = Salvaged::in_place_of(&dir).unwrap();
        assert_eq!(aside, place.path().join("mail.damaged-1"));
        assert!(!salvaged.report.complete);
        let waiting = [("alice/phone".to_owned(), 2), ("bob/pc".to_owned(), 1)];
        assert_eq!(salvaged.mailboxes, waiting.into());
        assert_eq!(salvaged.lost, [("alice/phone".to_owned(), 1)].into());
        let store = DurableStore::open(&dir, Compaction::default()).unwrap();
        let rows = store.load(&"alice".parse().unwrap()).unwrap();
        let positions: Vec<_> = rows.messages.iter().map(|row| row.position).collect();
        assert_eq!(positions, [1, 3]);
        assert_eq!(store.begin_boot().unwrap().number, 3 + LOST_BOOTS + 1);
    }

    #[test]
    fn a_store_without_damage_is_salvaged_whole() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("mail");
        store(&dir);
        let salvaged = Salvaged::of(&dir).unwrap();
        assert!(salvaged.report.complete);
        assert_eq!((salvaged.messages(), salvaged.lost.len()), (4, 0));
        assert_eq!(salvaged.retained, [("alice".to_owned(), 1)].into());
        assert_eq!(salvaged.others, 1, "the number of the boot");
        assert_eq!(salvaged.newest_boot, 3);
        assert!(
            DurableStore::open(&dir, Compaction::default()).is_ok(),
            "a look changed the store"
        );
    }

    /// The number of the boot is in every position, so a lost row of it does not bring one back.
    #[test]
    fn no_boot_comes_again() {
        let mut salvaged = Salvaged::default();
        let position = Positions::of_boot(70).take();
        let key = row::place_key(&Place::Mailbox {
            device: "alice/phone".parse().unwrap(),
            lane: Lane::Bulk,
            position,
        });
        salvaged.count(&key, &Bytes::new());
        assert_eq!(salvaged.newest_boot, 70);
        let row = row::of(retained(Positions::of_boot(80).take()));
        let (key, value) = row.put().unwrap();
        salvaged.count(&key, &value);
        assert_eq!(salvaged.newest_boot, 80);
    }
}
