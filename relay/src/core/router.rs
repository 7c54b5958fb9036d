//! One message: forward it, store it, or pass it on to the relay where its account is at home.
//!
//! The router owns every account that is at home here, behind one lock that is never held across
//! an await. Sessions and links hand it [`Request`]s; whatever comes out of the rules goes to
//! outlets and to the store. Requests for an account whose home is not known yet wait in the order
//! in which they came.
//!
//! Whoever drives it calls [`Router::work`] when its bell has rung or its deadline has come, and
//! answers what it [asks](Router::take_asks).

mod residents;
mod upkeep;
mod waiting;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ahash::HashMap;
use bytes::Bytes;
use holdfast_protocol::{
    id::Name,
    message::{Ack, RelayAddress},
    time::Time,
};
use parking_lot::Mutex;

use self::{
    residents::Residents,
    waiting::{Kept, Waiting},
};
use super::{
    allowance::Allowances,
    links::Links,
    request::{Attachment, Request},
    turns::{self, Turns},
};
use crate::{
    bell::Bell,
    mail::{
        account::Account,
        clock::MailClock,
        desk::{Desk, Durable, Moment, Positions, Shelf, Write},
        message::Place,
        outlet::{Outlet, SessionId},
        policy::Rules,
    },
    metrics::Metrics,
    store::{Boot, MailboxStore, StoreError},
};

/// Where an account is at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// At this relay.
    Here,
    /// At that one.
    There(Name),
}

/// Which way a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// From a device: on to its account's home.
    Session,
    /// From another relay, which takes this one for the home: nowhere else.
    Peer,
}

/// The router; a clone is another handle on it.
#[derive(Clone)]
pub(crate) struct Router(Arc<Inner>);

struct Inner {
    name: Name,
    rules: Rules,
    store: Arc<dyn MailboxStore>,
    metrics: Arc<Metrics>,
    links: Links,
    turns: Turns,
    allowances: Allowances,
    sessions: AtomicU64,
    disk_full: AtomicBool,
    state: Mutex<State>,
    finished: Arc<Finished>,
    /// Accounts whose homes are to be asked for.
    asks: Mutex<Vec<Name>>,
    /// There is something in `asks`.
    asking: Bell,
}

/// Commits that became durable, for [`Router::work`] to answer.
#[derive(Default)]
struct Finished {
    commits: Mutex<VecDeque<Commit>>,
    /// All writes up to this number are durable.
    through: AtomicU64,
    /// There is something to answer, or the deadline has moved closer.
    bell: Bell,
}

impl Finished {
    /// Adds one; rings if it is the only one.
    fn push(&self, number: u64, commit: Commit) {
        self.through.fetch_max(number, Ordering::AcqRel);
        let mut commits = self.commits.lock();
        commits.push_back(commit);
        let was_empty = commits.len() == 1;
        drop(commits);
        if was_empty {
            self.bell.ring();
        }
    }

    /// The oldest ones; rings if there are more.
    fn take(&self, most: usize) -> Vec<Commit> {
        let mut commits = self.commits.lock();
        let most = most.min(commits.len());
        let taken = commits.drain(..most).collect();
        if !commits.is_empty() {
            self.bell.ring();
        }
        taken
    }
}

/// A change of one account that became durable.
struct Commit {
    account: Name,
    durable: Vec<Durable>,
    /// How much of its senders' shares it was.
    weight: u64,
}

struct State {
    residents: Residents,
    homes: HashMap<Name, Home>,
    waiting: Waiting,
    /// The links that other relays have dialled.
    links_in: BTreeMap<Name, Outlet>,
    positions: Positions,
    mail_clock: MailClock,
    held: u64,
    /// How many writes were handed to the store.
    writes: u64,
    /// No tick before this.
    next_tick: Time,
    next_sweep: Time,
}

impl Router {
    /// Counters.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.0.metrics.clone()
    }

    /// Whose turn it is to hand in messages.
    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// What each sender may still send.
    pub(crate) fn allowances(&self) -> &Allowances {
        &self.0.allowances
    }

    /// A router for one boot of a relay.
    pub(crate) fn new(
        (name, boot): (Name, Boot),
        rules: Rules,
        store: Arc<dyn MailboxStore>,
        metrics: Arc<Metrics>,
        links: Links,
    ) -> Self {
        let state = State {
            residents: Residents::default(),
            homes: HashMap::default(),
            waiting: Waiting::default(),
            links_in: BTreeMap::new(),
            positions: Positions::of_boot(boot.number),
            mail_clock: MailClock::resume(boot.reading, rules.max_ttl),
            held: 0,
            writes: 0,
            next_tick: Time::ZERO,
            next_sweep: Time::ZERO,
        };
        Self(Arc::new(Inner {
            name,
            rules,
            store,
            metrics,
            links,
            turns: Turns::default(),
            allowances: Allowances::default(),
            sessions: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            state: Mutex::new(state),
            finished: Arc::default(),
            asks: Mutex::default(),
            asking: Bell::default(),
        }))
    }

    /// Refuses new mail for the accounts at home here from now on, or takes it again.
    pub(crate) fn refuse_mail(&self, refuse: bool) {
        self.0.disk_full.store(refuse, Ordering::Relaxed);
    }

    /// A number for a session, not used before in this boot.
    pub(crate) fn next_session(&self) -> SessionId {
        self.0.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes a request of a session's. Requests of one session for one account are carried out in
    /// the order in which they come.
    ///
    /// # Errors
    /// When the store cannot be read; nothing was done.
    pub(crate) fn request(&self, now: Moment, request: Request) -> Result<(), StoreError> {
        self.0
            .route(now, &mut self.0.state.lock(), From::Session, request)
    }

    /// Takes a request of another relay's, which takes this one for the account's home.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub(crate) fn request_from_peer(
        &self,
        now: Moment,
        request: Request,
    ) -> Result<(), StoreError> {
        self.0
            .route(now, &mut self.0.state.lock(), From::Peer, request)
    }

    /// A device's application has messages.
    ///
    /// # Errors
    /// When the store cannot be read; nothing was done.
    pub(crate) fn ack(
        &self,
        now: Moment,
        attachment: &Attachment,
        ack: Ack,
    ) -> Result<(), StoreError> {
        let (session, device) = (attachment.session.id, &attachment.device);
        let mut state = self.0.state.lock();
        match state.homes.get(&device.account) {
            Some(Home::Here) => {
                self.0
                    .with_account(now, &mut state, &device.account, |account, desk| {
                        account.ack(&device.device, session, ack, desk);
                    })
            }
            Some(Home::There(relay)) => {
                self.0.links.ack(relay, session, ack);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A session has ended.
    ///
    /// # Errors
    /// When the store cannot be read; what is there was unloaded before, and so is settled.
    pub(crate) fn detach(&self, now: Moment, attachment: &Attachment) -> Result<(), StoreError> {
        let (session, device) = (attachment.session.id, &attachment.device);
        let mut state = self.0.state.lock();
        match state.homes.get(&device.account) {
            Some(Home::Here) => {
                self.0
                    .with_account(now, &mut state, &device.account, |account, desk| {
                        account.detach(&device.device, session, desk);
                    })
            }
            Some(Home::There(relay)) => {
                self.0.links.detach(relay, session);
                Ok(())
            }
            None => {
                state.waiting.detach(&device.account, session);
                Ok(())
            }
        }
    }

    /// Nobody is there any more at this outlet: what waits to be passed on for it is dropped. Its
    /// sender has no answer, and sends again.
    pub(crate) fn forget(&self, outlet: &Outlet) {
        outlet.close();
        self.0.state.lock().waiting.forget(outlet);
        self.0.links.forget(outlet);
    }

    /// Another relay has dialled: nothing that still comes over its last link counts any more.
    pub(crate) fn link(&self, relay: &Name, outlet: &Outlet) {
        let mut state = self.0.state.lock();
        if let Some(older) = state.links_in.insert(relay.clone(), outlet.clone()) {
            older.relink();
        }
    }

    /// A link that another relay had dialled has ended.
    pub(crate) fn unlink(&self, relay: &Name, outlet: &Outlet) {
        let mut state = self.0.state.lock();
        if state.links_in.get(relay) == Some(outlet) {
            state.links_in.remove(relay);
        }
    }

    /// Reads a stored body, if it is still there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn body(&self, place: &Place) -> Result<Option<Bytes>, StoreError> {
        self.0.store.body(place)
    }

    /// Rings when there is something to [`take_asks`](Self::take_asks).
    pub(crate) fn asking(&self) -> Bell {
        self.0.asking.clone()
    }

    /// The accounts whose homes are to be asked for, since this was last called. Answer each with
    /// [`found`](Self::found), some time.
    pub(crate) fn take_asks(&self) -> Vec<Name> {
        mem::take(&mut *self.0.asks.lock())
    }

    /// An account's home has been found out: whatever waited for it goes its way.
    ///
    /// # Errors
    /// When the store cannot be read; whose requests could not be carried out was turned away.
    pub(crate) fn found(
        &self,
        now: Moment,
        account: &Name,
        home: &RelayAddress,
    ) -> Result<(), StoreError> {
        let place = if home.name == self.0.name {
            Home::Here
        } else {
            self.0.links.introduce(home);
            Home::There(home.name.clone())
        };
        let mut state = self.0.state.lock();
        state.homes.insert(account.clone(), place);
        let mut done = Ok(());
        for (from, request) in state.waiting.take(account) {
            let outlet = request.outlet().clone();
            if let Err(error) = self.0.route(now, &mut state, from, request) {
                outlet.shut();
                done = Err(error);
            }
        }
        done
    }

    /// The devices of an account that are on the list, if it is at home here.
    pub(crate) fn online(&self, account: &Name) -> Vec<Name> {
        let mut state = self.0.state.lock();
        let account = state.residents.get_mut(account);
        account.map_or_else(Vec::new, |account| {
            account.online_devices().cloned().collect()
        })
    }

    /// How many bytes of bodies are held in memory while attached devices are awaited.
    pub(crate) fn held(&self) -> u64 {
        self.0.state.lock().held
    }

    /// Rings when there is something to [`work`](Self::work) on, or the deadline has moved closer.
    pub(crate) fn bell(&self) -> Bell {
        self.0.finished.bell.clone()
    }

    /// When there will be something to [`work`](Self::work) on at the latest.
    pub(crate) fn deadline(&self) -> Time {
        let state = self.0.state.lock();
        let alarm = state.residents.first_alarm();
        let tick = alarm.map(|alarm| alarm.max(state.next_tick));
        tick.map_or(state.next_sweep, |tick| tick.min(state.next_sweep))
    }
}

impl Inner {
    fn route(
        &self,
        now: Moment,
        state: &mut State,
        from: From,
        request: Request,
    ) -> Result<(), StoreError> {
        if request.outlet().is_shut() {
            return Ok(());
        }
        match self.home(state, request.account())? {
            Some(Home::Here) => self.carry_out(now, state, request),
            Some(Home::There(relay)) if from == From::Session => {
                self.links.request(now, &relay, request);
                Ok(())
            }
            Some(Home::There(relay)) => {
                let account = request.account();
                tracing::error!(%account, home = %relay, "a peer takes this relay for the home");
                Ok(())
            }
            None => {
                self.ask(state, from, request);
                Ok(())
            }
        }
    }

    /// Where an account is at home. Only a home keeps rows of an account, and an account never
    /// moves, so what the store knows is at home here, whether or not the allocator can be asked.
    fn home(&self, state: &mut State, account: &Name) -> Result<Option<Home>, StoreError> {
        if let Some(home) = state.homes.get(account) {
            return Ok(Some(home.clone()));
        }
        if state.waiting.is_asked(account) || !self.store.knows(account)? {
            return Ok(None);
        }
        state.homes.insert(account.clone(), Home::Here);
        Ok(Some(Home::Here))
    }

    fn ask(&self, state: &mut State, from: From, request: Request) {
        let account = request.account().clone();
        if state.waiting.push(from, request) == Kept::First {
            self.asks.lock().push(account);
            self.asking.ring();
        }
    }

    fn carry_out(
        &self,
        now: Moment,
        state: &mut State,
        request: Request,
    ) -> Result<(), StoreError> {
        let account = request.account().clone();
        self.with_account(now, state, &account, |account, desk| match request {
            Request::Submit { message, asker } => account.submit(message, asker, desk),
            Request::Attach(attachment) => {
                let Attachment {
                    session,
                    device,
                    inbox,
                    ..
                } = attachment;
                account.attach(&device.device, inbox, session, desk);
            }
            Request::Allow {
                sender,
                allowed,
                asker,
                ..
            } => {
                account.allow(sender, allowed, asker, desk);
            }
        })
    }

    /// Applies a rule to an account that is at home here, and hands its writes to the store.
    fn with_account(
        &self,
        now: Moment,
        state: &mut State,
        name: &Name,
        rule: impl FnOnce(&mut Account, &mut Desk<'_>),
    ) -> Result<(), StoreError> {
        self.load(state, name)?;
        let State {
            residents,
            positions,
            mail_clock,
            held,
            ..
        } = state;
        let Some(account) = residents.get_mut(name) else {
            return Ok(());
        };
        let online_before = account.online();
        let now = mail_clock.read(now);
        let mut desk = Desk::new(now, &self.rules, positions, held, self);
        desk.disk_full = self.disk_full.load(Ordering::Relaxed);
        rule(account, &mut desk);
        let Desk {
            writes,
            durable,
            tally,
            ..
        } = desk;
        self.metrics.count(&tally, online_before, account.online());
        let written = self.write(&mut state.writes, name, writes, durable);
        if state.residents.touched(name, written) {
            self.finished.bell.ring();
        }
        Ok(())
    }

    fn load(&self, state: &mut State, name: &Name) -> Result<(), StoreError> {
        if state.residents.contains(name) {
            return Ok(());
        }
        let account = Account::restore(name.clone(), self.store.load(name)?);
        self.metrics.loaded(account.waiting_bytes());
        state.residents.insert(name.clone(), account);
        Ok(())
    }

    /// Hands a change to the store; tells its number.
    fn write(
        &self,
        last: &mut u64,
        name: &Name,
        writes: Vec<Write>,
        durable: Vec<Durable>,
    ) -> Option<u64> {
        if writes.is_empty() {
            return None;
        }
        *last += 1;
        if durable.is_empty() {
            self.store.write(writes);
        } else {
            let (finished, number) = (self.finished.clone(), *last);
            let commit = Commit {
                account: name.clone(),
                durable,
                weight: writes.iter().map(weight).sum(),
            };
            self.turns.writes(commit.weight);
            let done = move || finished.push(number, commit);
            self.store.commit(writes, Box::new(done));
        }
        Some(*last)
    }
}

/// What a write counts of its sender's share.
fn weight(write: &Write) -> u64 {
    match write {
        Write::PutMessage { body, .. } => turns::weight(body.len()),
        _ => 0,
    }
}

impl Shelf for Inner {
    fn body(&self, place: &Place) -> Option<Bytes> {
        match self.store.body(place) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, ?place, "a stored message could not be read");
                None
            }
        }
    }
}
