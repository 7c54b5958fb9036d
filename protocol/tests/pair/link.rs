//! One direction of a simulated connection: what QUIC promises of streams and datagrams, and the
//! worst it may do within that, from a seed.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{close::CloseCode, time::Time};

/// What travels.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// Bytes of the control stream: in order, in pieces of any size, never lost.
    Control(Bytes),
    /// A whole stream of its own: in order among its like, and with nothing else.
    Bulk(Bytes),
    /// In any order, or never.
    Datagram(Bytes),
    /// Overtakes everything, and nothing follows.
    Close(CloseCode),
}

/// A sequence of numbers that look random (SplitMix64, Steele et al. 2014).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Link {
    dice: Dice,
    /// A parcel takes between the first and the second of these, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    /// Of a thousand datagrams so many are lost.
    pub(crate) loss_permille: u64,
    /// The next so many datagrams are lost.
    pub(crate) lose_next: u32,
    /// Nothing arrives: datagrams are lost, streams wait.
    pub(crate) is_cut: bool,
    /// The parcels by arrival; those of one moment in the order in which they were sent.
    under_way: BTreeMap<(Time, u64), Parcel>,
    sent: u64,
    /// When the last parcel of the control stream, and of the other streams, arrives.
    last_control: Time,
    last_bulk: Time,
}

impl Link {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            delay_ms: (5, 200),
            loss_permille: 0,
            lose_next: 0,
            is_cut: false,
            under_way: BTreeMap::new(),
            sent: 0,
            last_control: Time::ZERO,
            last_bulk: Time::ZERO,
        }
    }

    pub(crate) fn send(&mut self, now: Time, parcel: Parcel) {
        match parcel {
            Parcel::Control(bytes) => self.send_in_pieces(now, bytes),
            Parcel::Bulk(_) => {
                self.last_bulk = self.arrival(now).max(self.last_bulk);
                self.put(self.last_bulk, parcel);
            }
            Parcel::Datagram(_) if self.loses_one() => {}
            Parcel::Datagram(_) | Parcel::Close(_) => {
                let arrival = self.arrival(now);
                self.put(arrival, parcel);
            }
        }
    }

    /// Mostly a few large pieces, sometimes a byte at a time.
    fn send_in_pieces(&mut self, now: Time, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let largest = [1, 16, 1200, 65_536][self.dice.below(4) as usize];
            let size = 1 + self.dice.below(largest) as usize;
            let piece = bytes.split_to(size.min(bytes.len()));
            self.last_control = self.arrival(now).max(self.last_control);
            self.put(self.last_control, Parcel::Control(piece));
        }
    }

    fn loses_one(&mut self) -> bool {
        let chosen = self.lose_next > 0;
        self.lose_next = self.lose_next.saturating_sub(1);
        chosen || self.is_cut || self.dice.below(1000) < self.loss_permille
    }

    fn arrival(&mut self, now: Time) -> Time {
        let (least, most) = self.delay_ms;
        now + Duration::from_millis(least + self.dice.below(most - least + 1))
    }

    fn put(&mut self, arrival: Time, parcel: Parcel) {
        self.sent += 1;
        self.under_way.insert((arrival, self.sent), parcel);
    }

    /// When the next parcel arrives.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        let ((arrival, _), _) = self.under_way.first_key_value()?;
        (!self.is_cut).then_some(*arrival)
    }

    /// A parcel that has arrived.
    pub(crate) fn take(&mut self, now: Time) -> Option<Parcel> {
        self.next_arrival().filter(|arrival| *arrival <= now)?;
        self.under_way.pop_first().map(|(_, parcel)| parcel)
    }
}
