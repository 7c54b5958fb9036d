//! What is known of a message when it comes: which parts of it are new, and what became of the
//! others.
//!
//! A message has a part for each mailbox it is for, and one for what the account retains. A retry
//! may find some of them seen and others not: a crash has taken back what was in memory, or a
//! device has joined between two tries.

use holdfast_protocol::{
    id::Name,
    message::{Options, Outcome},
};

use crate::mail::answers::{AnswerId, worse};

/// The parts of one message.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Mailboxes that have not seen it.
    pub(super) new: Vec<Name>,
    /// The account has not seen it, and is to retain it.
    pub(super) retain: bool,
    /// Mailboxes where it waits, and nobody waits to hear of it.
    pub(super) stored: Vec<Name>,
    /// Who waits to hear of it.
    pub(super) awaited: Option<AnswerId>,
    /// The ends it came to where it does not wait any more.
    pub(super) ends: Vec<Option<Outcome>>,
}

impl Trail {
    /// Whether no part of the message was seen before.
    pub(super) fn is_fresh(&self) -> bool {
        self.stored.is_empty() && self.awaited.is_none() && self.ends.is_empty()
    }

    /// How many parts are new.
    pub(super) fn parts(&self) -> usize {
        self.new.len() + usize::from(self.retain)
    }

    /// The end of those parts that have come to one.
    pub(super) fn end(&self, options: &Options) -> Outcome {
        let known = |end: &Option<Outcome>| end.unwrap_or_else(|| likely_end(options));
        self.ends.iter().map(known).fold(Outcome::Delivered, worse)
    }
}

/// The end of a message of an earlier run that waits no more. One with a time to live or a key may
/// have come to another end than delivery, and must not be said to be delivered: its sender hears
/// that it was stored; if it wants to hear the end, the worse one.
fn likely_end(options: &Options) -> Outcome {
    let end = match (&options.key, options.ttl_s) {
        (Some(_), _) => Outcome::Replaced,
        (None, Some(_)) => Outcome::Expired,
        (None, None) => return Outcome::Delivered,
    };
    if options.notify { end } else { Outcome::Stored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_have_been_delivered_is_not_said_to_be() {
        let end = |key: Option<&str>, ttl_s, notify| {
            let trail = Trail {
                ends: vec![Some(Outcome::Delivered), None],
                ..Trail::default()
            };
            let key = key.map(|key| key.parse().unwrap());
            trail.end(&Options {
                ttl_s,
                key,
                retain: false,
                notify,
                ..Options::default()
            })
        };
        assert_eq!(end(None, None, true), Outcome::Delivered);
        assert_eq!(end(Some("k"), None, false), Outcome::Stored);
        assert_eq!(end(Some("k"), Some(1), true), Outcome::Replaced);
        assert_eq!(end(None, Some(1), true), Outcome::Expired);
    }
}
