//! What happens to mail at its home relay: the rules, without I/O.
//!
//! Time, positions and a view of the store are passed in with each call ([`Desk`]); rows to write,
//! answers to senders and deliveries come out. From the ground up:
//!
//! - [`message`]: a message, and what is kept of one that waits;
//! - [`outlet`]: the queue that leads to a session or a link;
//! - [`desk`]: what every rule needs at hand;
//! - [`clock`]: the clock by which mail ages;
//! - [`policy`]: who may write to whom, and how much;
//! - [`room`]: how much room a mailbox has, and for whom;
//! - [`answers`]: senders that wait to hear what became of their messages;
//! - [`ledger`]: which messages were seen before, so that a retry is recognised;
//! - [`refusals`]: which messages were refused, so that a retry is refused again;
//! - [`retained`]: what an account keeps for devices that join it later;
//! - [`mailbox`]: one device's waiting messages: order, windows, expiry, collapse keys;
//! - [`online`]: which devices of an account are attached;
//! - [`account`]: all that concerns an account, in one order.
//!
//! # The rules of a mailbox
//!
//! Every device has one mailbox, at its account's home relay. In brackets stands what an operator
//! sets under `[limits]`, with its default.
//!
//! **Who may write.** The account's own devices, services, and devices of accounts that the account
//! has allowed; anyone if the relay is `open`. Else the refusal is `not_allowed`.
//!
//! **How large.** A body has at most `max_body` bytes (1 MiB); else `too_large`.
//!
//! **How much waits.** At most `max_messages` (100,000) messages and `max_bytes` (256 MiB), in both
//! lanes together; a message counts its body and 128 bytes, from its acceptance to its end, also
//! while it is in memory only. What does not fit is refused before any answer: `mailbox_full`.
//!
//! **Who is refused first.** A message of low priority is refused once three quarters of either are
//! taken, one of normal priority at 95 %, one of high priority when all is taken. Priority changes no
//! order: it is carried to the device, and nothing else.
//!
//! **How much of it from one sender.** All devices of one account, or one service, may have
//! `max_pair_messages` (a quarter of `max_messages`) and `max_pair_bytes` (a quarter of `max_bytes`)
//! waiting in one mailbox. Else `pair_full`, whatever the priority.
//!
//! **What comes again** (`again`: it may have been submitted before) is taken although there is no
//! room: an earlier run may have handed it over and forgotten it in a crash, and then a refusal would
//! be a lie. So much of it from one account or service, in each run of the relay, as a device may have
//! unacknowledged: 256 messages, `bulk` 4.
//!
//! **A message to an account** goes to every device of it that has ever attached, but the sender; it
//! is refused by all of them if it is refused by one.
//!
//! **In which order.** Messages of one sender, outbox and lane come in the order of their numbers; all
//! others in the order in which they were accepted, per lane. A device is handed at most 256 messages
//! (`bulk`: 4) and 1 MiB per lane before it acknowledges; one is always let through.
//!
//! **How long.** `ttl_s` seconds from acceptance, at most and by default `max_ttl` (30 days), by a clock
//! that wrong wall clocks do not move ([`clock`]). What was
//! handed to the attached device does not expire under way. What expired is told to the device as one
//! gap with their count, once everything that was accepted before is handed over, and in each session
//! until the device has acknowledged it; and to its sender, if it asked.
//!
//! **Collapse keys.** A message with a key replaces those of its key from the same account or service
//! that wait in the mailbox, in either lane, and were not handed to the attached device. It has their
//! room, too. Their senders hear `replaced`, if they asked, once that is durable.
//!
//! **Retained keys.** With `retain`, the account keeps the newest message of the key, whatever becomes
//! of it in mailboxes, until another one comes, an empty one removes it, or the time to live that its
//! sender gave it ends. At most `max_retained` keys (1,024) and `max_retained_bytes` (64 MiB) of
//! bodies; else `retained_full`. A device that attaches with another memory than last time is given
//! all of it, each message at its place in the account's order; that counts as room, but is never
//! refused. It is a state, and no part of its sender's order: what the sender had to send again after
//! a crash has a later place, and comes behind it.
//!
//! **What is accepted stays.** It leaves a mailbox only when the device's application has it, when a
//! newer one of its key replaces it, when its time to live is over, or when its device is forgotten.
//!
//! **Silent devices.** A device that was not attached for `forget_device_after` (90 days) is forgotten:
//! its mail expires, and it does not hold up its account any more. If it comes back within as long
//! again, it is told how many it missed; it joins anew in any case. A name that was written to and
//! never attached is forgotten after the same time, but not before its mail has expired.
//!
//! **Silent senders.** How far an outbox has come, and which of its messages were refused, is known
//! until nothing has come from it for 90 days and nothing of it waits. Clients give up a message 60
//! days after they submitted it first, by the relays' clocks, and go on with the next number. Devices
//! know for 425 days what they have received: 60, and the 365 for which mail may wait at most.
//!
//! **Where the promise ends.** A message that was handed over by a run that crashed before anybody was
//! answered may be refused when it comes again, although the device has it, if in between the account
//! stopped allowing its sender, the operator lowered a limit, or its sender had more than the window
//! above to repeat.

pub(crate) mod account;
pub(crate) mod answers;
pub(crate) mod clock;
pub(crate) mod desk;
pub(crate) mod ledger;
pub(crate) mod mailbox;
pub(crate) mod message;
pub(crate) mod online;
pub(crate) mod outlet;
pub(crate) mod policy;
pub(crate) mod refusals;
pub(crate) mod retained;
pub(crate) mod room;
