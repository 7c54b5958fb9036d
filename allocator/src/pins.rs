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

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use holdfast_durable::{Batch, Closed, OpenError, ReadError, Store};
use holdfast_protocol::id::Name;
use parking_lot::Mutex;

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
    store: Arc<dyn Store>,
    /// Pins that are queued and not yet durable. The store may show them to readers already, so
    /// whoever reads a pin looks here afterwards.
    arriving: Arc<Mutex<BTreeMap<Name, Arriving>>>,
}

/// Who wants to know an account's home; dropped if that cannot be told any more.
type Asker = Box<dyn FnOnce(Result<Option<Name>, PinError>) + Send>;

/// A pin on its way to the disk.
struct Arriving {
    home: Name,
    askers: Vec<Asker>,
}

impl Pins {
    /// The pins in a store.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            arriving: Arc::default(),
        }
    }

    /// Tells the account's home. An account that has none is pinned to `candidate`; when several
    /// askers see it first at the same time, one of them decides for all. `tell` is called once the
    /// pin is durable, which may be at once, or dropped when the store closes first.
    pub(crate) fn home(
        &self,
        account: &Name,
        candidate: Option<Name>,
        tell: impl FnOnce(Result<Option<Name>, PinError>) + Send + 'static,
    ) {
        let found = self.read(account);
        let mut arriving = self.arriving.lock();
        if let (Ok(_), Some(pin)) = (&found, arriving.get_mut(account)) {
            return pin.askers.push(Box::new(tell));
        }
        // A pin that is not arriving any more may have been durable only after the first look.
        let found = match found {
            Ok(None) => self.read(account),
            found => found,
        };
        let (Ok(None), Some(home)) = (&found, candidate) else {
            drop(arriving);
            return tell(found);
        };
        let pin = Arriving {
            home: home.clone(),
            askers: vec![Box::new(tell)],
        };
        arriving.insert(account.clone(), pin);
        // A store may be done at once.
        drop(arriving);
        self.pin(account, &home);
    }

    /// Remembers a relay. What is pinned to it later is never on disk without it. `done` is called
    /// when it is durable, or dropped when the store closes first.
    pub(crate) fn remember(
        &self,
        relay: &Name,
        known: &Known,
        done: impl FnOnce() + Send + 'static,
    ) {
        // Plain data in growing memory: encoding it cannot fail.
        let encoded = postcard::to_allocvec(known).unwrap_or_default();
        let mut batch = Batch::new();
        batch.put(key(RELAY, relay), encoded);
        self.store.commit(batch, Box::new(done));
    }

    /// Every relay that was ever remembered.
    ///
    /// # Errors
    /// [`PinError`] names the row that cannot be read.
    pub(crate) fn relays(&self) -> Result<Vec<(Name, Known)>, PinError> {
        let decode = |row: Result<_, ReadError>| {
            let (key, value): (Bytes, Bytes) = row?;
            let name = parse_name(&key[RELAY.len()..], &key)?;
            let known = postcard::from_bytes(&value).map_err(|error| damaged(&key, error))?;
            Ok((name, known))
        };
        self.store.scan(RELAY.as_bytes()).map(decode).collect()
    }

    fn pin(&self, account: &Name, home: &Name) {
        tracing::info!(%account, %home, "pinned");
        let mut batch = Batch::new();
        batch.put(key(PIN, account), home.as_str().as_bytes().to_vec());
        let pin = Pinning {
            account: account.clone(),
            arriving: self.arriving.clone(),
        };
        self.store.commit(batch, Box::new(move || pin.settle()));
    }

    fn read(&self, account: &Name) -> Result<Option<Name>, PinError> {
        let key = key(PIN, account);
        let value = self.store.get(&key)?;
        value.map(|value| parse_name(&value, &key)).transpose()
    }
}

/// What the store holds until a pin is durable.
struct Pinning {
    account: Name,
    arriving: Arc<Mutex<BTreeMap<Name, Arriving>>>,
}

impl Pinning {
    fn settle(self) {
        let arrived = self.arriving.lock().remove(&self.account);
        if let Some(Arriving { home, askers }) = arrived {
            let tell = |tell: Asker| tell(Ok(Some(home.clone())));
            askers.into_iter().for_each(tell);
        }
    }
}

/// A store that closes first lets go of it: nobody is told.
impl Drop for Pinning {
    fn drop(&mut self) {
        self.arriving.lock().remove(&self.account);
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
mod tests;
