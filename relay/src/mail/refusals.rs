//! Which messages an account has refused, so that each stays refused.
//!
//! A refusal matters as long as its message may be asked about again *and* a later one of its source
//! has been accepted: taken for new then, it would come to a device after a higher number, and be
//! dropped there as a repetition. So refusals are written with the next message that is accepted
//! from their source, and until they are durable nothing of the source is handed over. Those of a
//! source of which nothing was accepted since may be forgotten: the message is judged anew.

use std::collections::{BTreeMap, VecDeque};

use holdfast_protocol::{id::Name, limits::WINDOW, message::Refusal};
use serde::{Deserialize, Serialize};

use super::{
    desk::{Day, Desk, Write},
    ledger::{is_outdated, take_outdated},
    message::Source,
};

/// How many sources' refusals an account keeps in memory of which none is on the disk: a stranger
/// must not fill the memory by being refused.
const MAX_UNWRITTEN: usize = 1024;

/// A source's last refused messages. The numbers of a sender's unanswered messages lie less than
/// [`WINDOW`] apart, so whatever it may still ask about is among the [`WINDOW`] highest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusals {
    by_number: BTreeMap<u64, Refusal>,
    /// When the last one was noted.
    day: Day,
}

impl Refusals {
    /// Notes a refusal, unless there is one of that number.
    pub(crate) fn note(&mut self, seq: u64, refusal: Refusal, today: Day) {
        self.by_number.entry(seq).or_insert(refusal);
        if self.by_number.len() as u64 > WINDOW {
            self.by_number.pop_first();
        }
        self.day = self.day.max(today);
    }
}

/// Which of a source's refusals are where; each number counts them all.
#[derive(Debug, Default)]
struct Page {
    refusals: Refusals,
    noted: u64,
    written: u64,
    durable: u64,
}

/// All refusals of an account.
#[derive(Debug, Default)]
pub(crate) struct RefusalBook {
    /// A tree, as most accounts have none, and an empty tree takes little.
    pages: BTreeMap<Source, Page>,
    /// Sources of which nothing was ever written, the oldest first.
    unwritten: VecDeque<Source>,
}

impl RefusalBook {
    /// Takes back what was stored of a source.
    pub(crate) fn restore(&mut self, source: Source, refusals: Refusals) {
        let page = Page {
            refusals,
            ..Page::default()
        };
        self.pages.insert(source, page);
    }

    /// Why the message of this number was refused, if it was.
    pub(crate) fn find(&self, source: &Source, seq: u64) -> Option<Refusal> {
        let refusals = &self.pages.get(source)?.refusals;
        refusals.by_number.get(&seq).copied()
    }

    /// Notes a refusal.
    pub(crate) fn note(&mut self, source: Source, seq: u64, refusal: Refusal, today: Day) {
        if !self.pages.contains_key(&source) {
            self.unwritten.push_back(source.clone());
            self.forget_the_oldest();
        }
        let page = self.pages.entry(source).or_default();
        page.refusals.note(seq, refusal, today);
        page.noted += 1;
    }

    fn forget_the_oldest(&mut self) {
        if self.unwritten.len() > MAX_UNWRITTEN
            && let Some(source) = self.unwritten.pop_front()
        {
            self.pages.remove(&source);
        }
    }

    /// What is to be written with a message that is accepted from a source, and the number under
    /// which [`written`](Self::written) is to be told; nothing, if it was handed out before.
    pub(crate) fn take_unwritten(&mut self, source: &Source) -> Option<(Refusals, u64)> {
        let page = self.pages.get_mut(source)?;
        if page.noted == page.written {
            return None;
        }
        page.written = page.noted;
        self.unwritten.retain(|other| other != source);
        Some((page.refusals.clone(), page.written))
    }

    /// What was handed out under this number is durable.
    pub(crate) fn written(&mut self, source: &Source, number: u64) {
        if let Some(page) = self.pages.get_mut(source) {
            page.durable = page.durable.max(number);
        }
    }

    /// Forgets sources of which nothing can come again.
    pub(crate) fn expire(&mut self, account: &Name, desk: &mut Desk<'_>) {
        for source in self.take_outdated(desk.now.today()) {
            desk.writes.push(Write::PutRefusals {
                account: account.clone(),
                source,
                refusals: None,
            });
        }
    }

    fn take_outdated(&mut self, today: Day) -> Vec<Source> {
        let sources = take_outdated(&mut self.pages, |page| {
            is_outdated(page.refusals.day, today)
        });
        self.unwritten.retain(|source| !sources.contains(source));
        sources
    }

    /// Whether a message that is accepted from a source now must be durable before it is handed
    /// over, because refusals are not.
    pub(crate) fn guards(&self, source: &Source) -> bool {
        self.pages
            .get(source)
            .is_some_and(|page| page.noted > page.durable)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::id::{Lane, Sender};

    use super::*;

    fn source(epoch: u64) -> Source {
        Source {
            sender: Sender::Service("push".parse().unwrap()),
            epoch,
            lane: Lane::Message,
        }
    }

    #[test]
    fn the_highest_window_of_refusals_is_remembered() {
        let mut book = RefusalBook::default();
        for seq in (1..=WINDOW + 1).rev() {
            book.note(source(1), seq, Refusal::MailboxFull, 1);
        }
        assert_eq!(book.find(&source(1), 1), None);
        assert_eq!(book.find(&source(1), 2), Some(Refusal::MailboxFull));
        assert_eq!(book.find(&source(2), 2), None);
    }

    #[test]
    fn refusals_guard_their_source_until_they_are_durable() {
        let mut book = RefusalBook::default();
        book.note(source(1), 1, Refusal::MailboxFull, 1);
        let (_, first) = book.take_unwritten(&source(1)).unwrap();
        assert_eq!(book.take_unwritten(&source(1)), None, "written once");
        book.note(source(1), 2, Refusal::NotAllowed, 1);
        let (refusals, second) = book.take_unwritten(&source(1)).unwrap();
        assert_eq!(refusals.by_number.len(), 2);
        book.written(&source(1), first);
        assert!(book.guards(&source(1)));
        book.written(&source(1), second);
        assert!(!book.guards(&source(1)));
        assert!(!book.guards(&source(2)));
    }

    #[test]
    fn what_is_forgotten_of_one_source_leaves_the_others_to_be_dropped_in_turn() {
        let mut book = RefusalBook::default();
        for epoch in 1..=3 {
            book.note(source(epoch), 1, Refusal::NotAllowed, epoch as Day);
        }
        assert_eq!(book.take_outdated(92), [source(1)]);
        assert_eq!(book.find(&source(1), 1), None);
        assert_eq!(book.unwritten, [source(2), source(3)]);
    }

    #[test]
    fn a_stranger_cannot_fill_the_memory() {
        let mut book = RefusalBook::default();
        book.note(source(0), 1, Refusal::NotAllowed, 1);
        book.take_unwritten(&source(0));
        for epoch in 1..=2 * MAX_UNWRITTEN as u64 {
            book.note(source(epoch), 1, Refusal::NotAllowed, 1);
        }
        assert_eq!(book.pages.len(), MAX_UNWRITTEN + 1);
        assert!(book.find(&source(0), 1).is_some(), "what is written stays");
    }
}
