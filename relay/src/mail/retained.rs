//! What an account retains: the newest message of each key, for devices that join it later.
//!
//! A change is written in the same commit in which its message is accepted, with how far its source
//! has come, so that a retry never puts an older message in a newer one's place.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_protocol::{
    id::{Key, Name},
    message::Refusal,
};

use super::{
    answers::{AnswerId, Answers},
    desk::{Desk, Durable, Write},
    ledger::{Mark, take_outdated},
    message::{Header, Message, Place, Source},
};

#[derive(Debug)]
struct Item {
    position: u64,
    header: Header,
    bytes: usize,
    /// The body while it is not durable.
    unwritten: Option<Bytes>,
}

/// A change that is not durable.
#[derive(Debug)]
struct Pending {
    source: Source,
    seq: u64,
    answer: AnswerId,
}

/// A message for a device that joins.
#[derive(Debug)]
pub(crate) struct Keepsake {
    /// Its place in the account's order.
    pub(crate) position: u64,
    /// What is kept besides the body.
    pub(crate) header: Header,
    /// The body.
    pub(crate) body: Bytes,
}

/// What one account retains.
#[derive(Debug)]
pub(crate) struct Retained {
    account: Name,
    items: BTreeMap<Key, Item>,
    bytes: u64,
    marks: BTreeMap<Source, Mark>,
    /// By the position of the message that brought the change.
    pending: BTreeMap<u64, Pending>,
}

impl Retained {
    /// Nothing yet.
    pub(crate) fn new(account: Name) -> Self {
        Self {
            account,
            items: BTreeMap::new(),
            bytes: 0,
            marks: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Takes back a stored message.
    pub(crate) fn restore(&mut self, key: Key, position: u64, header: Header, bytes: usize) {
        let item = Item {
            position,
            header,
            bytes,
            unwritten: None,
        };
        self.put(key, item);
    }

    /// Takes back how far a source had come.
    pub(crate) fn restore_mark(&mut self, source: Source, mark: Mark) {
        self.marks.insert(source, mark);
    }

    /// Whether everything here is also on the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the message was taken in before.
    pub(crate) fn has_seen(&self, source: &Source, seq: u64) -> bool {
        self.marks.get(source).is_some_and(|mark| seq <= mark.seq)
    }

    /// Who waits for the message to be durable.
    pub(crate) fn awaited(&self, source: &Source, seq: u64) -> Option<AnswerId> {
        self.pending
            .values()
            .find(|pending| pending.seq == seq && pending.source == *source)
            .map(|pending| pending.answer)
    }

    /// Whether there is room. An empty body only makes room.
    pub(crate) fn admit(&self, message: &Message, desk: &Desk<'_>) -> Result<(), Refusal> {
        let (Some(key), false) = (&message.options.key, message.body.is_empty()) else {
            return Ok(());
        };
        let older = self.items.get(key);
        let count = self.items.len() - usize::from(older.is_some());
        let bytes = self.bytes - older.map_or(0, |item| item.bytes as u64);
        let after = bytes + message.body.len() as u64;
        if count < desk.rules.max_retained && after <= desk.rules.max_retained_bytes {
            Ok(())
        } else {
            Err(Refusal::RetainedFull)
        }
    }

    /// Keeps a message that was admitted, in place of an older one of its key; an empty body
    /// removes the key.
    pub(crate) fn accept(
        &mut self,
        position: u64,
        header: Header,
        body: Bytes,
        answer: AnswerId,
        desk: &mut Desk<'_>,
    ) {
        let Some(key) = header.options.key.clone() else {
            return;
        };
        self.advance(position, &header, answer, desk);
        if body.is_empty() {
            return self.remove(&key, desk);
        }
        desk.writes.push(Write::PutMessage {
            place: self.place(&key),
            position,
            lane: header.id.lane,
            header: header.clone(),
            body: body.clone(),
        });
        let item = Item {
            position,
            header,
            bytes: body.len(),
            unwritten: Some(body),
        };
        self.put(key, item);
    }

    fn advance(&mut self, position: u64, header: &Header, answer: AnswerId, desk: &mut Desk<'_>) {
        let (source, seq) = (Source::from(&header.id), header.id.seq);
        let mark = self.marks.entry(source.clone()).or_default();
        mark.advance(seq, desk.now.today());
        desk.writes.push(Write::PutMark {
            account: self.account.clone(),
            device: None,
            source: source.clone(),
            mark: Some(*mark),
        });
        desk.durable.push(Durable::Retained { position });
        let pending = Pending {
            source,
            seq,
            answer,
        };
        self.pending.insert(position, pending);
    }

    /// The change that the message at this position brought is durable.
    pub(crate) fn stored(&mut self, position: u64, answers: &mut Answers) {
        let Some(pending) = self.pending.remove(&position) else {
            return;
        };
        let mut items = self.items.values_mut();
        if let Some(item) = items.find(|item| item.position == position) {
            item.unwritten = None;
        }
        answers.part_kept(pending.answer);
    }

    /// Everything that has not expired, for a device that joins.
    pub(crate) fn keepsakes(&self, desk: &Desk<'_>) -> Vec<Keepsake> {
        let fresh = self
            .items
            .iter()
            .filter(|(_, item)| !item.header.has_expired(desk.now.mail_ms));
        let read = fresh.filter_map(|(key, item)| {
            let unwritten = item.unwritten.clone();
            let body = unwritten.or_else(|| desk.shelf.body(&self.place(key)))?;
            Some(Keepsake {
                position: item.position,
                header: item.header.clone(),
                body,
            })
        });
        read.collect()
    }

    /// Drops what is past its time to live, and what is known of sources of which nothing can come
    /// again.
    pub(crate) fn expire(&mut self, desk: &mut Desk<'_>) {
        self.forget_sources(desk);
        let expired = self
            .items
            .iter()
            .filter(|(_, item)| item.header.has_expired(desk.now.mail_ms));
        let keys: Vec<Key> = expired.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.remove(key, desk));
    }

    fn forget_sources(&mut self, desk: &mut Desk<'_>) {
        let today = desk.now.today();
        for source in take_outdated(&mut self.marks, |mark| mark.is_outdated(today)) {
            desk.writes.push(Write::PutMark {
                account: self.account.clone(),
                device: None,
                source,
                mark: None,
            });
        }
    }

    fn put(&mut self, key: Key, item: Item) {
        self.bytes += item.bytes as u64;
        if let Some(older) = self.items.insert(key, item) {
            self.bytes -= older.bytes as u64;
        }
    }

    fn remove(&mut self, key: &Key, desk: &mut Desk<'_>) {
        if let Some(item) = self.items.remove(key) {
            self.bytes -= item.bytes as u64;
            desk.writes.push(Write::DeleteMessage(self.place(key)));
        }
    }

    fn place(&self, key: &Key) -> Place {
        Place::Retained {
            account: self.account.clone(),
            key: key.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::{
        id::{Lane, MessageId, Sender},
        message::Options,
        time::Time,
    };

    use super::*;
    use crate::mail::{
        desk::{Now, Positions, Shelf},
        policy::Rules,
    };

    /// A store from which nothing can be read yet.
    struct Bare;

    impl Shelf for Bare {
        fn body(&self, _: &Place) -> Option<Bytes> {
            None
        }
    }

    fn header(key: &str, seq: u64) -> Header {
        Header {
            id: MessageId {
                sender: Sender::Service("push".parse().unwrap()),
                epoch: 1,
                lane: Lane::Message,
                seq,
            },
            accepted_ms: 0,
            since_ms: 0,
            options: Options {
                key: Some(key.parse().unwrap()),
                retain: true,
                ..Options::default()
            },
        }
    }

    /// It may not be readable before.
    #[test]
    fn a_body_stays_at_hand_until_it_is_durable() {
        let (rules, mut held) = (Rules::default(), 0);
        let mut positions = Positions::of_boot(1);
        let now = Now {
            time: Time::ZERO,
            wall_ms: 0,
            mail_ms: 0,
        };
        let mut desk = Desk::new(now, &rules, &mut positions, &mut held, &Bare);
        let mut retained = Retained::new("alice".parse().unwrap());
        for (position, key) in [(1, "a"), (2, "b")] {
            let body = Bytes::from_static(b"kept");
            retained.accept(position, header(key, position), body, position, &mut desk);
        }
        retained.stored(1, &mut Answers::default());
        assert!(!retained.is_settled());
        let at_hand: Vec<u64> = retained
            .keepsakes(&desk)
            .iter()
            .map(|keepsake| keepsake.position)
            .collect();
        assert_eq!(at_hand, [2]);
        retained.stored(2, &mut Answers::default());
        assert!(retained.is_settled());
        assert!(retained.keepsakes(&desk).is_empty());
    }
}
