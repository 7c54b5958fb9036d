//! Which relay is each account's home, and which relays there have been: on disk.
//!
//! A pin decides where an account's mailboxes lie, so it is as precious as the mail in them: an
//! answer that names a home leaves only when the pin is durable, and a pin never changes.
//!
//! | key | value |
//! |---|---|
//! | `p/ACCOUNT` | the name of the account's home relay, as text |
//! | `r/RELAY` | what was last known of a relay ([`Known`]), in postcard |
//!
//! Pins are read from the store each time: it keeps what is asked for often in its own cache.

use std::{collections::HashMap, path::Path, sync::Arc};

use holdfast_durable::{Batch, CloseError, Closed, Db, OpenError, Options, ReadError};
use holdfast_protocol::id::Name;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::fleet::Known;

const PIN: &str = "p/";
const RELAY: &str = "r/";

/// Why the pins cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A row says nothing this version understands.
    #[error(
        "the allocator's row {key} makes no sense: {why}; restore the data directory from a \
         backup, or run the version that wrote it"
    )]
    Row {
        /// The row's key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The allocator is shutting down.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// The pins of all accounts, and the relays they point to.
pub(crate) struct Pins {
    db: Db,
    /// Pins that are queued and not yet durable. The store may show them to readers already, so
    /// whoever reads a pin looks here afterwards.
    arriving: Arc<Mutex<HashMap<Name, Arriving>>>,
}

/// A pin on its way to the disk.
#[derive(Clone)]
struct Arriving {
    home: Name,
    durable: watch::Receiver<bool>,
}

/// What is known about an account's home.
enum Pin {
    /// Nothing: it was never seen, and there is no relay to pin it to.
    None,
    /// It is on disk.
    Durable(Name),
    /// It will be.
    Arriving(Arriving),
}

impl Pins {
    /// Opens the pins in the directory `data`, or begins there. Blocks.
    ///
    /// # Errors
    /// When the store is in use or damaged, or the system refuses.
    pub(crate) fn open(data: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            db: Db::open(data, Options::default())?,
            arriving: Arc::default(),
        })
    }

    /// The account's home. An account that has none is pinned to `candidate`; when several askers
    /// see it first at the same time, one of them decides for all. Returns once the pin is durable.
    ///
    /// # Errors
    /// [`PinError`], when the store cannot be read or closes first.
    pub(crate) async fn home(
        &self,
        account: &Name,
        candidate: Option<Name>,
    ) -> Result<Option<Name>, PinError> {
        match self.find_or_pin(account, candidate)? {
            Pin::None => Ok(None),
            Pin::Durable(home) => Ok(Some(home)),
            Pin::Arriving(mut pin) => {
                let durable = pin.durable.wait_for(|durable| *durable).await;
                durable.map_err(|_| Closed)?;
                Ok(Some(pin.home))
            }
        }
    }

    /// Remembers a relay. What is pinned to it later is never on disk without it. The receiver hears
    /// when it is durable.
    pub(crate) fn remember(&self, relay: &Name, known: &Known) -> oneshot::Receiver<()> {
        // Plain data in growing memory: encoding it cannot fail.
        let encoded = postcard::to_allocvec(known).unwrap_or_default();
        let mut batch = Batch::new();
        batch.put(key(RELAY, relay), encoded);
        let (wake, woken) = oneshot::channel();
        self.db.commit(batch, move || {
            // Fails only when nobody waits any more.
            let _ = wake.send(());
        });
        woken
    }

    /// Every relay that was ever remembered.
    ///
    /// # Errors
    /// [`PinError`] names the row that cannot be read.
    pub(crate) fn relays(&self) -> Result<Vec<(Name, Known)>, PinError> {
        let decode = |row: Result<_, ReadError>| {
            let (key, value): (bytes::Bytes, bytes::Bytes) = row?;
            let name = parse_name(&key[RELAY.len()..], &key)?;
            let known = postcard::from_bytes(&value).map_err(|error| damaged(&key, error))?;
            Ok((name, known))
        };
        self.db.scan(RELAY.as_bytes()).map(decode).collect()
    }

    /// Closes the store; what was queued becomes durable first. Blocks.
    ///
    /// # Errors
    /// When the disk refuses at the last moment. No pin is lost by that.
    pub(crate) fn close(&self) -> Result<(), CloseError> {
        self.db.close()
    }

    fn find_or_pin(&self, account: &Name, candidate: Option<Name>) -> Result<Pin, PinError> {
        let found = self.read(account)?;
        let mut arriving = self.arriving.lock();
        if let Some(pin) = arriving.get(account) {
            return Ok(Pin::Arriving(pin.clone()));
        }
        // A pin that is not arriving any more may have been durable only after the first look.
        let found = match found {
            None => self.read(account)?,
            found => found,
        };
        if let Some(home) = found {
            return Ok(Pin::Durable(home));
        }
        let Some(home) = candidate else {
            return Ok(Pin::None);
        };
        tracing::info!(%account, %home, "pinned");
        let pin = self.queue(account, home);
        arriving.insert(account.clone(), pin.clone());
        Ok(Pin::Arriving(pin))
    }

    /// Called with `arriving` locked, so that the pin is entered there before it can be taken out.
    fn queue(&self, account: &Name, home: Name) -> Arriving {
        let mut batch = Batch::new();
        batch.put(key(PIN, account), home.as_str().as_bytes().to_vec());
        let (wake, durable) = watch::channel(false);
        let (arriving, account) = (self.arriving.clone(), account.clone());
        self.db.commit(batch, move || {
            arriving.lock().remove(&account);
            wake.send_replace(true);
        });
        Arriving { home, durable }
    }

    fn read(&self, account: &Name) -> Result<Option<Name>, PinError> {
        let key = key(PIN, account);
        let value = self.db.get(&key)?;
        value.map(|value| parse_name(&value, &key)).transpose()
    }
}

fn key(kind: &str, name: &Name) -> Vec<u8> {
    [kind, name.as_str()].concat().into_bytes()
}

fn parse_name(text: &[u8], key: &[u8]) -> Result<Name, PinError> {
    let text = std::str::from_utf8(text).map_err(|error| damaged(key, error))?;
    Name::new(text).map_err(|error| damaged(key, error))
}

fn damaged(key: &[u8], why: impl ToString) -> PinError {
    PinError::Row {
        key: String::from_utf8_lossy(key).into_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn known(port: u16, capacity: u32) -> Known {
        Known {
            addresses: vec![([127, 0, 0, 1], port).into()],
            capacity,
        }
    }

    #[tokio::test]
    async fn a_pin_never_changes_even_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        let alice = name("alice");
        assert_eq!(pins.home(&alice, None).await, Ok(None));
        let first = pins.home(&alice, Some(name("r1"))).await;
        assert_eq!(first, Ok(Some(name("r1"))));
        assert_eq!(pins.home(&alice, Some(name("r2"))).await, first);
        pins.close().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        assert_eq!(pins.home(&alice, Some(name("r2"))).await, first);
        assert!(pins.arriving.lock().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn askers_at_the_same_time_hear_the_same_home() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Arc::new(Pins::open(dir.path()).unwrap());
        for round in 0..20 {
            let account = name(&format!("account-{round}"));
            let mut askers = JoinSet::new();
            for asker in 0..16 {
                let (pins, account) = (pins.clone(), account.clone());
                let candidate = Some(name(&format!("r{asker}")));
                askers.spawn(async move { pins.home(&account, candidate).await.unwrap() });
            }
            let homes = askers.join_all().await;
            assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
            assert_eq!(pins.home(&account, None).await, Ok(homes[0].clone()));
        }
    }

    #[tokio::test]
    async fn relays_are_remembered_as_they_were_last_seen() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        assert_eq!(pins.relays(), Ok(Vec::new()));
        pins.remember(&name("r2"), &known(2, 1)).await.unwrap();
        pins.remember(&name("r1"), &known(1, 1)).await.unwrap();
        pins.remember(&name("r1"), &known(3, 5)).await.unwrap();
        pins.home(&name("r1"), Some(name("r2"))).await.unwrap();
        pins.close().unwrap();
        let relays = Pins::open(dir.path()).unwrap().relays();
        let expected = vec![(name("r1"), known(3, 5)), (name("r2"), known(2, 1))];
        assert_eq!(relays, Ok(expected));
    }

    #[tokio::test]
    async fn a_row_that_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        let mut batch = Batch::new();
        batch.put("p/alice", "no name");
        batch.put("r/r1", "\x01");
        pins.db.commit_blocking(batch).unwrap();
        let row = |error| match error {
            PinError::Row { key, .. } => key,
            other => panic!("{other}"),
        };
        let home = pins.home(&name("alice"), Some(name("r1"))).await;
        assert_eq!(row(home.unwrap_err()), "p/alice");
        assert_eq!(row(pins.relays().unwrap_err()), "r/r1");
    }

    #[tokio::test]
    async fn a_closed_store_answers_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path()).unwrap();
        pins.close().unwrap();
        let home = pins.home(&name("alice"), Some(name("r1"))).await;
        assert_eq!(home, Err(ReadError::from(Closed).into()));
        assert!(pins.remember(&name("r1"), &known(1, 1)).await.is_err());
    }
}
