//! Changes of the account's list of allowed senders that a relay has not confirmed. A new session
//! asks again for all of them, in order, so that the last word counts.

use std::collections::VecDeque;

use holdfast_protocol::id::Name;
use tokio::sync::oneshot;

/// A change, and who waits for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) account: Name,
    pub(crate) allowed: bool,
    pub(crate) reply: oneshot::Sender<()>,
}

/// A change as the relay is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) tag: u32,
    pub(crate) account: Name,
    pub(crate) allowed: bool,
}

#[derive(Debug)]
struct Pending {
    change: Change,
    reply: oneshot::Sender<()>,
}

/// The changes that are not confirmed.
#[derive(Debug, Default)]
pub(crate) struct Allowing {
    pending: VecDeque<Pending>,
    /// How many of them, from the front, this session's relay was asked for.
    sent: usize,
    next_tag: u32,
}

impl Allowing {
    pub(crate) fn add(&mut self, request: Request) {
        let Request {
            account,
            allowed,
            reply,
        } = request;
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        let change = Change {
            tag,
            account,
            allowed,
        };
        self.pending.push_back(Pending { change, reply });
    }

    pub(crate) fn begin_session(&mut self) {
        self.sent = 0;
    }

    /// What this session's relay was not asked for yet; now it is.
    pub(crate) fn unsent(&mut self) -> Vec<Change> {
        let unsent = self.pending.iter().skip(self.sent);
        let changes = unsent.map(|pending| pending.change.clone()).collect();
        self.sent = self.pending.len();
        changes
    }

    /// The relay has made the change.
    pub(crate) fn answered(&mut self, tag: u32) {
        let found = self.pending.iter().position(|p| p.change.tag == tag);
        if let Some(pending) = found.and_then(|index| self.pending.remove(index)) {
            self.sent = self.sent.saturating_sub(1);
            // Fails only if nobody waits any more.
            let _ = pending.reply.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(allowing: &mut Allowing, account: &str, allowed: bool) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        allowing.add(Request {
            account: account.parse().unwrap(),
            allowed,
            reply,
        });
        answer
    }

    fn tags(allowing: &mut Allowing) -> Vec<u32> {
        allowing.unsent().iter().map(|change| change.tag).collect()
    }

    #[test]
    fn each_session_asks_for_what_is_not_confirmed_once_and_in_order() {
        let mut allowing = Allowing::default();
        let mut first = add(&mut allowing, "bob", true);
        let mut second = add(&mut allowing, "bob", false);
        assert_eq!(tags(&mut allowing), [0, 1]);
        assert_eq!(tags(&mut allowing), []);
        allowing.answered(0);
        assert!(first.try_recv().is_ok());
        add(&mut allowing, "carol", true);
        assert_eq!(tags(&mut allowing), [2]);
        allowing.begin_session();
        assert_eq!(tags(&mut allowing), [1, 2]);
        allowing.answered(1);
        assert!(second.try_recv().is_ok());
        allowing.answered(77);
        assert_eq!(tags(&mut allowing), []);
    }
}
