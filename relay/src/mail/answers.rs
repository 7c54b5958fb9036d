//! Senders that wait to hear what became of their messages.
//!
//! A message for an account is one question with several parts: each device's mailbox, and what
//! the account retains. The sender hears once all parts are safe, and, if it asked for that, a
//! second time when all have come to their end.

use ahash::HashMap;
use holdfast_protocol::message::Outcome;

use super::outlet::Asker;

/// Which answer.
pub(crate) type AnswerId = u64;

#[derive(Debug)]
struct Answer {
    askers: Vec<Asker>,
    /// Parts that are neither on disk nor at their end.
    unsafe_parts: usize,
    /// Parts that have not come to their end.
    open_parts: usize,
    /// The sender wants to hear the end.
    notify: bool,
    /// The sender has heard `stored`.
    told: bool,
    /// The least happy end of a part so far.
    end: Outcome,
}

/// The open answers of one account.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    open: HashMap<AnswerId, Answer>,
    next: AnswerId,
}

impl Answers {
    /// A question of so many parts.
    pub(crate) fn open(&mut self, asker: Asker, parts: usize, notify: bool) -> AnswerId {
        self.next += 1;
        let answer = Answer {
            askers: vec![asker],
            unsafe_parts: parts,
            open_parts: parts,
            notify,
            told: false,
            end: Outcome::Delivered,
        };
        self.open.insert(self.next, answer);
        self.next
    }

    /// A question about a message of which `stored` parts are on disk from before, and so many
    /// `parts` are new; what has ended came to `end`.
    pub(crate) fn reopen(
        &mut self,
        asker: Asker,
        (stored, parts): (usize, usize),
        notify: bool,
        end: Outcome,
    ) -> AnswerId {
        let id = self.open(asker, parts, notify);
        if let Some(answer) = self.open.get_mut(&id) {
            answer.open_parts += stored;
            answer.end = end;
        }
        self.tell_if_safe(id);
        id
    }

    /// The sender asks again, from another session, and so many parts are new: both hear the
    /// answer.
    pub(crate) fn ask_again(&mut self, id: AnswerId, asker: Asker, parts: usize) {
        let Some(answer) = self.open.get_mut(&id) else {
            return;
        };
        answer.unsafe_parts += parts;
        answer.open_parts += parts;
        answer.told &= parts == 0;
        if answer.told {
            asker.answer(Outcome::Stored);
        }
        answer.askers.retain(|known| known.outlet != asker.outlet);
        answer.askers.push(asker);
    }

    /// Whether somebody waits for this answer.
    pub(crate) fn is_open(&self, id: AnswerId) -> bool {
        self.open.contains_key(&id)
    }

    /// A part is on disk.
    pub(crate) fn part_stored(&mut self, id: Option<AnswerId>) {
        let Some((id, answer)) = id.and_then(|id| Some((id, self.open.get_mut(&id)?))) else {
            return;
        };
        answer.unsafe_parts = answer.unsafe_parts.saturating_sub(1);
        self.tell_if_safe(id);
    }

    /// A part for devices yet to come is on disk, which is all that can become of it.
    pub(crate) fn part_kept(&mut self, id: AnswerId) {
        self.part_stored(Some(id));
        self.part_ended(Some(id), Outcome::Delivered, true);
    }

    /// A part has come to its end; `was_safe` if it was on disk before.
    pub(crate) fn part_ended(&mut self, id: Option<AnswerId>, outcome: Outcome, was_safe: bool) {
        let Some((id, answer)) = id.and_then(|id| Some((id, self.open.get_mut(&id)?))) else {
            return;
        };
        answer.end = worse(answer.end, outcome);
        if !was_safe {
            answer.unsafe_parts = answer.unsafe_parts.saturating_sub(1);
        }
        answer.open_parts = answer.open_parts.saturating_sub(1);
        if answer.open_parts == 0 {
            answer.tell(answer.end);
            self.open.remove(&id);
        } else {
            self.tell_if_safe(id);
        }
    }

    /// Drops the answers to stored messages that nobody is there any more to hear.
    pub(crate) fn sweep(&mut self) {
        self.open.retain(|_, answer| {
            !answer.told || answer.askers.iter().any(|asker| !asker.outlet.is_closed())
        });
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn tell_if_safe(&mut self, id: AnswerId) {
        let Some(answer) = self.open.get_mut(&id) else {
            return;
        };
        if answer.unsafe_parts > 0 || answer.told {
            return;
        }
        answer.told = true;
        answer.tell(Outcome::Stored);
        if !answer.notify {
            self.open.remove(&id);
        }
    }
}

/// Of the ends of two parts, the one that the sender should know of.
pub(crate) fn worse(one: Outcome, other: Outcome) -> Outcome {
    match other {
        Outcome::Delivered => one,
        _ => other,
    }
}

impl Answer {
    fn tell(&self, outcome: Outcome) {
        for asker in &self.askers {
            asker.answer(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::outlet::{Outbound, Outlet, Question};

    fn asker(outlet: &Outlet) -> Asker {
        Asker {
            outlet: outlet.clone(),
            question: Question::Passed { tag: 1 },
        }
    }

    fn heard(outlet: &Outlet) -> Vec<Outcome> {
        let outcome = |outbound| match outbound {
            Outbound::Answer { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        };
        outlet.take().into_iter().map(outcome).collect()
    }

    #[test]
    fn all_parts_delivered_is_delivered() {
        let (mut answers, outlet) = (Answers::default(), Outlet::new());
        let id = Some(answers.open(asker(&outlet), 2, false));
        answers.part_ended(id, Outcome::Delivered, false);
        assert_eq!(heard(&outlet), []);
        answers.part_ended(id, Outcome::Delivered, false);
        assert_eq!(heard(&outlet), [Outcome::Delivered]);
        assert!(answers.is_empty());
    }

    #[test]
    fn one_part_stored_makes_it_stored_and_the_end_is_told_on_request() {
        let (mut answers, outlet) = (Answers::default(), Outlet::new());
        let id = Some(answers.open(asker(&outlet), 2, true));
        answers.part_stored(id);
        answers.part_ended(id, Outcome::Delivered, false);
        assert_eq!(heard(&outlet), [Outcome::Stored]);
        answers.part_ended(id, Outcome::Expired, true);
        assert_eq!(heard(&outlet), [Outcome::Expired]);
        assert!(answers.is_empty());
    }

    #[test]
    fn who_asks_again_hears_what_was_told_and_what_comes() {
        let (mut answers, first, second) = (Answers::default(), Outlet::new(), Outlet::new());
        let id = answers.open(asker(&first), 1, true);
        answers.part_stored(Some(id));
        answers.ask_again(id, asker(&second), 0);
        answers.part_ended(Some(id), Outcome::Delivered, true);
        assert_eq!(heard(&first), [Outcome::Stored, Outcome::Delivered]);
        assert_eq!(heard(&second), [Outcome::Stored, Outcome::Delivered]);
    }

    #[test]
    fn a_part_that_came_later_must_be_safe_before_stored_is_said() {
        let (mut answers, first, second) = (Answers::default(), Outlet::new(), Outlet::new());
        let id = answers.open(asker(&first), 1, true);
        answers.part_stored(Some(id));
        answers.ask_again(id, asker(&second), 1);
        assert_eq!(heard(&second), []);
        answers.part_stored(Some(id));
        assert_eq!(heard(&second), [Outcome::Stored]);
        answers.part_ended(Some(id), Outcome::Expired, true);
        answers.part_ended(Some(id), Outcome::Delivered, true);
        assert_eq!(heard(&second), [Outcome::Expired]);
    }

    #[test]
    fn a_message_of_an_earlier_run_is_stored_at_once_and_ends_when_its_last_part_does() {
        let (mut answers, outlet) = (Answers::default(), Outlet::new());
        let id = answers.reopen(asker(&outlet), (2, 0), true, Outcome::Expired);
        assert_eq!(heard(&outlet), [Outcome::Stored]);
        answers.part_ended(Some(id), Outcome::Delivered, true);
        assert_eq!(heard(&outlet), []);
        answers.part_ended(Some(id), Outcome::Delivered, true);
        assert_eq!(heard(&outlet), [Outcome::Expired]);
        let id = answers.reopen(asker(&outlet), (1, 0), false, Outcome::Delivered);
        assert!(!answers.is_open(id), "nobody asked to hear the end");
    }

    #[test]
    fn an_answer_that_nobody_hears_is_swept_once_the_message_is_stored() {
        let (mut answers, outlet) = (Answers::default(), Outlet::new());
        let id = answers.open(asker(&outlet), 1, true);
        outlet.close();
        answers.sweep();
        assert!(answers.is_open(id), "a retry must find it");
        answers.part_stored(Some(id));
        answers.sweep();
        assert!(answers.is_empty());
    }
}
