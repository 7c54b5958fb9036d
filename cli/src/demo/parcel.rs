//! What a person sends, and the check that it arrives: the same bytes, in order, once.

use std::collections::VecDeque;

use bytes::Bytes;
use holdfast::{Lane, Received};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::failure::Failure;

/// A photo of a phone's camera, made small for sending, in bytes.
const PHOTO: usize = 600 * 1024;

/// How many short messages a lively chat has.
pub(crate) const BURST: usize = 200;

/// A file of bookmarks, as a browser exports it, in its `version`.
pub(crate) fn bookmarks(version: u32) -> Bytes {
    let entries: Vec<_> = (1..=40)
        .map(|number| {
            serde_json::json!({
                "title": format!("Page {number}"),
                "url": format!("https://example.org/{version}/{number}"),
            })
        })
        .collect();
    let file = serde_json::json!({ "version": version, "bookmarks": entries });
    file.to_string().into()
}

/// Bytes that no codec could make smaller, as of a photo; the same for the same seed.
pub(crate) fn photo(seed: u64) -> Bytes {
    let mut bytes = vec![0; PHOTO];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// A day's mail: bookmarks, a photo amid a burst of short messages.
pub(crate) fn mail(seed: u64) -> Vec<Bytes> {
    let line = |number| Bytes::from(format!("{seed}: line {number} of {BURST}"));
    let mut mail = vec![bookmarks(1), photo(seed)];
    mail.extend((1..=BURST).map(line));
    mail
}

/// What is to come. Order holds within each lane.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    lanes: [VecDeque<Bytes>; 2],
}

impl Expected {
    pub(crate) fn new(bodies: &[Bytes]) -> Self {
        let mut expected = Self::default();
        for body in bodies {
            let lane = Lane::for_body(body.len());
            expected.lanes[lane as usize].push_back(body.clone());
        }
        expected
    }

    /// Whether everything has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Takes what has come: it has to be the next one of its lane.
    pub(crate) fn take(&mut self, message: &Received) -> Result<(), Failure> {
        self.take_body(message.lane(), message.body())
            .map_err(|why| Failure::Demo(format!("{} is {why}", message.id())))
    }

    fn take_body(&mut self, lane: Lane, body: &Bytes) -> Result<(), &'static str> {
        let lane = &mut self.lanes[lane as usize];
        match lane.pop_front() {
            Some(next) if next == body => Ok(()),
            Some(_) if lane.contains(body) => Err("too early: one before it is missing"),
            _ => Err("not what was sent, or came before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_mail_of_both_lanes() {
        let mail = mail(7);
        let bulk = mail
            .iter()
            .filter(|b| Lane::for_body(b.len()) == Lane::Bulk);
        assert_eq!((mail.len(), bulk.count()), (BURST + 2, 1));
        assert_eq!(photo(7), photo(7));
        assert_ne!(photo(7), photo(8));
    }

    #[test]
    fn what_is_lost_swapped_changed_or_doubled_is_noticed() {
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        let expected = || Expected::new(&[a.clone(), b.clone()]);
        let take = |expected: &mut Expected, body: &Bytes| expected.take_body(Lane::Message, body);
        let mut good = expected();
        assert_eq!(take(&mut good, &a), Ok(()));
        assert!(!good.is_complete());
        assert_eq!(take(&mut good, &b), Ok(()));
        assert!(good.is_complete());
        assert!(take(&mut good, &b).is_err(), "doubled");
        assert!(take(&mut expected(), &b).is_err(), "swapped, or lost");
        assert!(take(&mut expected(), &Bytes::from("c")).is_err(), "changed");
    }
}
