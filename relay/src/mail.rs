//! What happens to mail at its home relay: the rules, without I/O.
//!
//! Time, positions and a view of the store are passed in with each call ([`Desk`]); rows to write,
//! answers to senders and deliveries come out. From the ground up:
//!
//! - [`message`]: a message, and what is kept of one that waits;
//! - [`outlet`]: the queue that leads to a session or a link;
//! - [`desk`]: what every rule needs at hand;
//! - [`policy`]: who may write to whom, and how much;
//! - [`answers`]: senders that wait to hear what became of their messages;
//! - [`ledger`]: which messages were seen before, so that a retry is recognised;
//! - [`refusals`]: which messages were refused, so that a retry is refused again;
//! - [`retained`]: what an account keeps for devices that join it later;
//! - [`mailbox`]: one device's waiting messages: order, windows, expiry, collapse keys;
//! - [`online`]: which devices of an account are attached;
//! - [`account`]: all that concerns an account, in one order.

pub(crate) mod account;
pub(crate) mod answers;
pub(crate) mod desk;
pub(crate) mod ledger;
pub(crate) mod mailbox;
pub(crate) mod message;
pub(crate) mod online;
pub(crate) mod outlet;
pub(crate) mod policy;
pub(crate) mod refusals;
pub(crate) mod retained;
