//! Fairness between senders. Whoever sends more than its share while the disk is busy waits for its
//! turn, in a ring with the others that do; who sends little never waits behind them. This is deficit
//! round robin (Shreedhar and Varghese, 1995), with what became durable together as the round.
//!
//! - In each round a session may hand in its share at once. A round that takes long, since the disk
//!   does, is over after a few milliseconds for those who did not have to wait lately: what they send
//!   reaches a device that is there without the disk.
//! - Past that it may use what nobody else waits for, until as much is on its way to the disk as one
//!   sync is worth: more when all who send have waited lately, for then nobody minds how long it takes.
//! - Past that it waits. At the end of a round those that wait are called in the order in which they
//!   began to, as long as there is room, and each may hand in its share again. Two are called at a
//!   time, and the next when one of them is done: whoever does not wait finds at most these before it
//!   in line for a processor, and not everybody who sends without end.
//!
//! So what is on its way to the disk at a time is bounded by one group and a share for each session,
//! however much is sent; a flooding sender's answers come later, and the others' do not. What waits has
//! been neither carried out nor answered: it keeps its order, and nothing of it is lost that the sender
//! does not have. While nothing is on its way to the disk, nobody waits.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use ahash::HashMap;
use holdfast_protocol::time::Time;
use parking_lot::Mutex;

use crate::bell::Bell;

/// How much a session may hand in each round, whoever else does.
const SHARE: i64 = 16;

/// How long a round is at most for those who did not have to wait lately: 2,000 messages a second of a
/// sender are not held up by a disk that takes its time, however long.
const ROUND: Duration = Duration::from_millis(8);

/// How much is on its way to the disk when nobody may hand in more than its share. To take in, write
/// and answer this many keeps two processors busy for some 3 ms, which is how long others may have
/// to wait for one.
const GROUP: i64 = 64;

/// The same when nobody sends who did not have to wait lately: the more of it shares a sync, the less
/// each costs, and all of these wait for their turn anyway.
const BULK: i64 = 384;

/// For how many rounds it is remembered that somebody waited, or handed in without having waited: a
/// second or so.
const LATELY: u64 = 256;

/// How many have their turn at a time: one works while another wakes.
const CALLED: usize = 2;

/// Bytes that weigh as much as a message does by itself.
const BYTES: usize = 4096;

/// How much a message counts.
pub(crate) fn weight(body: usize) -> u64 {
    1 + (body / BYTES) as u64
}

/// Whose turn it is; a clone is the same ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    round: u64,
    /// On its way to the disk.
    writing: i64,
    places: HashMap<u64, Place>,
    /// Who waits or did lately, in the order in which they are called.
    order: VecDeque<u64>,
    /// How many wait.
    waiting: usize,
    /// How many were called and have not had their turn.
    called: usize,
    /// The last round in which somebody handed in who had not waited lately.
    light: u64,
    last: u64,
}

#[derive(Debug)]
struct Place {
    bell: Bell,
    standing: Standing,
    is_in_order: bool,
    /// The round that the credit is of.
    round: u64,
    /// When it was last given.
    since: Time,
    /// What is left of its share; less than nothing if it handed in something large.
    credit: i64,
    /// The last round in which it waited.
    waited: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Free,
    Waiting,
    Called,
}

impl Turns {
    /// So much is on its way to the disk.
    pub(crate) fn writes(&self, weight: u64) {
        self.0.lock().writing += weight.cast_signed();
    }

    /// So much of it is durable: a round is over.
    pub(crate) fn written(&self, weight: u64) {
        let mut ring = self.0.lock();
        ring.writing -= weight.cast_signed();
        ring.round += 1;
        ring.call();
    }

    /// A place in the ring for a session that listens to `bell`.
    pub(crate) fn seat(&self, bell: Bell) -> Seat {
        let mut ring = self.0.lock();
        ring.last += 1;
        let (number, round) = (ring.last, ring.round);
        let place = Place {
            bell,
            standing: Standing::Free,
            is_in_order: false,
            round,
            since: Time::default(),
            credit: SHARE,
            waited: None,
        };
        ring.places.insert(number, place);
        Seat {
            turns: self.clone(),
            number,
        }
    }
}

impl Ring {
    /// Calls those that may be called now.
    fn call(&mut self) {
        while self.called < CALLED && self.has_room() && self.call_one() {}
    }

    /// Whether one more share may be on its way to the disk.
    fn has_room(&self) -> bool {
        let shares = i64::try_from(self.called + 1).unwrap_or(i64::MAX);
        self.writing + shares * SHARE <= self.group()
    }

    /// How much may be on its way to the disk.
    fn group(&self) -> i64 {
        match self.round - self.light < LATELY {
            true => GROUP,
            false => BULK,
        }
    }

    /// Calls the first that waits. It keeps its place among those that are called with it, however
    /// soon it waits again.
    fn call_one(&mut self) -> bool {
        for _ in 0..self.order.len() {
            let Some(number) = self.order.pop_front() else {
                break;
            };
            let Some(place) = self.places.get_mut(&number) else {
                continue;
            };
            if place.standing == Standing::Free {
                place.is_in_order = false;
                continue;
            }
            self.order.push_back(number);
            if place.standing == Standing::Waiting {
                place.call(self.round, self.writing == 0);
                self.waiting -= 1;
                self.called += 1;
                return true;
            }
        }
        false
    }

    fn take(&mut self, number: u64, weight: u64, now: Time) -> bool {
        let Some(place) = self.places.get_mut(&number) else {
            return false;
        };
        if place.standing == Standing::Waiting {
            return false;
        }
        if place.standing == Standing::Free {
            place.refresh(self.round, now, self.writing == 0);
        }
        if place.credit > 0 {
            place.credit -= weight.cast_signed();
            if place.is_light(self.round) {
                self.light = self.round;
            }
            return true;
        }
        if self.waiting == 0 && self.writing < self.group() {
            return true;
        }
        self.wait(number);
        false
    }

    fn wait(&mut self, number: u64) {
        if let Some(place) = self.places.get_mut(&number) {
            self.called -= usize::from(place.standing == Standing::Called);
            place.standing = Standing::Waiting;
            place.waited = Some(self.round);
            self.waiting += 1;
            if !mem::replace(&mut place.is_in_order, true) {
                self.order.push_back(number);
            }
        }
        self.call();
    }

    fn rest(&mut self, number: u64) {
        let place = self.places.get_mut(&number);
        if let Some(place) = place.filter(|place| place.standing == Standing::Called) {
            place.standing = Standing::Free;
            self.called -= 1;
            self.call();
        }
    }

    fn leave(&mut self, number: u64) {
        match self.places.remove(&number).map(|place| place.standing) {
            Some(Standing::Waiting) => self.waiting -= 1,
            Some(Standing::Called) => {
                self.called -= 1;
                self.call();
            }
            _ => {}
        }
    }
}

impl Place {
    fn call(&mut self, round: u64, is_idle: bool) {
        self.standing = Standing::Called;
        self.round = round;
        self.earn(is_idle);
        self.bell.ring();
    }

    /// Whether it sends little, as far as can be seen.
    fn is_light(&self, round: u64) -> bool {
        self.waited.is_none_or(|waited| round - waited >= LATELY)
    }

    /// Has its share again, once a round, or at any time when nothing is on its way to the disk.
    fn refresh(&mut self, round: u64, now: Time, is_idle: bool) {
        let is_long = self.is_light(round) && now >= self.since + ROUND;
        if is_idle || self.round != round || is_long {
            self.earn(is_idle);
            self.since = now;
        }
        self.round = round;
    }

    fn earn(&mut self, is_idle: bool) {
        self.credit = match is_idle {
            true => SHARE,
            false => SHARE.min(self.credit + SHARE),
        };
    }
}

/// One session's place.
#[derive(Debug)]
pub(crate) struct Seat {
    turns: Turns,
    number: u64,
}

impl Seat {
    /// Whether it may hand in something of this weight now. If not, its bell rings when its turn has
    /// come.
    pub(crate) fn take(&mut self, weight: u64, now: Time) -> bool {
        self.turns.0.lock().take(self.number, weight, now)
    }

    /// Whether it waits for its turn.
    pub(crate) fn waits(&self) -> bool {
        let ring = self.turns.0.lock();
        let place = ring.places.get(&self.number);
        place.is_some_and(|place| place.standing == Standing::Waiting)
    }

    /// It has nothing more to hand in for now: if it was its turn, it is the next one's.
    pub(crate) fn rest(&self) {
        self.turns.0.lock().rest(self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.turns.0.lock().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(turns: &Turns) -> Seat {
        turns.seat(Bell::default())
    }

    /// Hands in as many messages of a weight as it may, and has them written.
    fn hand_in(seat: &mut Seat, weight: u64, most: usize) -> usize {
        let mut taken = 0;
        while taken < most && seat.take(weight, Time::default()) {
            seat.turns.writes(weight);
            taken += 1;
        }
        taken
    }

    fn is_called(seat: &Seat) -> bool {
        seat.turns.0.lock().places[&seat.number].bell.take()
    }

    #[test]
    fn one_that_is_alone_has_the_whole_group_and_no_more() {
        let turns = Turns::default();
        let mut one = seat(&turns);
        assert_eq!(hand_in(&mut one, 1, 10_000), GROUP as usize);
        assert!(one.waits() && !is_called(&one));
        turns.written(100);
        assert!(!one.waits() && is_called(&one));
        assert_eq!(hand_in(&mut one, 1, 10_000), 100);
    }

    #[test]
    fn one_that_sends_little_never_waits_behind_those_that_send_much() {
        let turns = Turns::default();
        let mut flood: Vec<Seat> = (0..100).map(|_| seat(&turns)).collect();
        let mut quiet = seat(&turns);
        for _ in 0..1_000 {
            let handed_in: usize = flood.iter_mut().map(|s| hand_in(s, 1, 10_000)).sum();
            assert!(handed_in as i64 <= GROUP + 100 * SHARE);
            assert_eq!(hand_in(&mut quiet, 1, SHARE as usize), SHARE as usize);
            let writing = turns.0.lock().writing;
            turns.written(writing.cast_unsigned());
        }
    }

    #[test]
    fn one_that_sends_little_does_not_wait_for_a_slow_disk() {
        let turns = Turns::default();
        let mut flood: Vec<Seat> = (0..4).map(|_| seat(&turns)).collect();
        let mut steady = seat(&turns);
        let hand_in_all = |flood: &mut Vec<Seat>, now| {
            let mut takes = |seat: &mut Seat| seat.take(65, now).then(|| seat.turns.writes(65));
            flood.iter_mut().filter_map(&mut takes).count()
        };
        assert_eq!(hand_in_all(&mut flood, Time::default()), 4);
        for round in 0..100 {
            let now = Time::default() + ROUND * round;
            assert_eq!(hand_in_all(&mut flood, now), 0);
            assert!((0..SHARE).all(|_| steady.take(1, now)));
        }
        let now = Time::default() + ROUND * 99;
        assert!(!steady.take(1, now) && steady.waits());
        assert!(!steady.take(1, now + ROUND));
    }

    #[test]
    fn more_shares_a_sync_while_nobody_sends_little() {
        let turns = Turns::default();
        let mut flood: Vec<Seat> = (0..4).map(|_| seat(&turns)).collect();
        let mut quiet = seat(&turns);
        let mut fill = || {
            let mut hand_in_all =
                || -> usize { flood.iter_mut().map(|s| hand_in(s, 1, 10_000)).sum() };
            while hand_in_all() > 0 {}
            turns.0.lock().writing
        };
        assert!(fill() <= GROUP + 4 * SHARE);
        for _ in 0..LATELY {
            turns.written(SHARE.cast_unsigned());
            fill();
        }
        assert_eq!(fill(), BULK);
        assert_eq!(hand_in(&mut quiet, 1, 1), 1);
        turns.written(BULK.cast_unsigned() + 1 - SHARE.cast_unsigned());
        assert!(fill() <= GROUP + 4 * SHARE);
    }

    #[test]
    fn those_that_send_much_get_the_same_whatever_the_size() {
        let turns = Turns::default();
        let mut flood: Vec<Seat> = (0..40).map(|_| seat(&turns)).collect();
        let mut bytes = vec![0; flood.len()];
        for _ in 0..10_000 {
            for (number, seat) in flood.iter_mut().enumerate() {
                let weight = if number % 2 == 0 { 1 } else { 65 };
                bytes[number] += hand_in(seat, weight, 10_000) as u64 * weight;
            }
            let writing = turns.0.lock().writing;
            // Never all of it, for then nobody would have to wait.
            turns.written((writing - 1).cast_unsigned());
        }
        let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
        assert!(most * 4 < least * 5, "{least} and {most}");
    }

    #[test]
    fn two_have_their_turn_at_a_time_and_the_next_when_one_is_done() {
        let turns = Turns::default();
        let mut all: Vec<Seat> = (0..6).map(|_| seat(&turns)).collect();
        for seat in &mut all {
            hand_in(seat, 1, 10_000);
        }
        let called = |all: &[Seat]| -> Vec<bool> { all.iter().map(is_called).collect() };
        assert_eq!(called(&all), [false; 6]);
        let writing = turns.0.lock().writing;
        turns.written(writing.cast_unsigned());
        assert_eq!(called(&all), [true, true, false, false, false, false]);
        assert_eq!(hand_in(&mut all[1], 1, 10_000), SHARE as usize);
        assert_eq!(called(&all), [false, false, true, false, false, false]);
        assert_eq!(hand_in(&mut all[0], 1, 3), 3);
        all[0].rest();
        assert_eq!(called(&all), [false, false, false, true, false, false]);
        drop(all.remove(2));
        assert_eq!(called(&all), [false, false, false, true, false]);
    }

    #[test]
    fn nobody_waits_for_one_that_is_gone_or_has_nothing_to_write() {
        let turns = Turns::default();
        let mut all: Vec<Seat> = (0..5).map(|_| seat(&turns)).collect();
        for seat in &mut all {
            hand_in(seat, 1, 10_000);
        }
        let [first, second, third, fourth, mut fifth] = <[Seat; 5]>::try_from(all).unwrap();
        drop(second);
        turns.0.lock().writing = 0;
        turns.written(0);
        assert!(is_called(&first) && is_called(&third) && !is_called(&fourth));
        drop(first);
        assert!(is_called(&fourth) && !is_called(&fifth));
        third.rest();
        assert!(is_called(&fifth) && hand_in(&mut fifth, 1, 1) == 1);
    }

    #[test]
    fn nobody_waits_while_nothing_is_on_its_way_to_the_disk() {
        let turns = Turns::default();
        let mut seats = [seat(&turns), seat(&turns)];
        for _ in 0..10_000 {
            assert!(seats.iter_mut().all(|seat| seat.take(9, Time::default())));
        }
    }
}
