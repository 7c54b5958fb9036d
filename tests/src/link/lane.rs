//! One direction of a link: the packets on their way, and when each is due. It reads no clock and
//! sends nothing; the link passes the time in and carries out what is due.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::weather::{Fate, Weather};

/// The most that is on its way in one direction, in bytes: what 100 Mbit/s put on a path of 300 ms
/// is 3.75 MB. What comes on top is dropped at the tail, as a full router does.
const CAPACITY: usize = 4 << 20;

/// Charged for each packet besides its payload, so that empty packets are bounded too: at most
/// 32,768 are on their way.
const OVERHEAD: usize = 128;

/// What has passed in one direction since the link started. At any time
/// `packets + duplicated == delivered + dropped + those on their way`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// Packets that came in.
    pub packets: u64,
    /// Packets, and copies, that were sent on.
    pub delivered: u64,
    /// Packets, and copies, that were not sent on, for whatever reason: lost to the weather or to
    /// a black hole, past the bound, without a mapping, or refused by the system.
    pub dropped: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Packets, and copies, that had to wait: for the weather, for one before them, or for a thaw.
    pub delayed: u64,
}

/// A packet on its way, and where it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet<R> {
    pub(super) payload: Bytes,
    pub(super) route: R,
}

impl<R> Packet<R> {
    fn cost(&self) -> usize {
        self.payload.len() + OVERHEAD
    }
}

/// One direction of a link.
pub(super) struct Lane<R> {
    rng: StdRng,
    weather: Weather,
    dark: bool,
    frozen: bool,
    /// By due time, then by arrival.
    flying: BTreeMap<(Instant, u64), Packet<R>>,
    flying_bytes: usize,
    /// When the last packet that keeps its turn is due: those behind it are due no earlier.
    tail: Option<Instant>,
    arrivals: u64,
    passage: Passage,
}

impl<R: Clone> Lane<R> {
    pub(super) fn new(rng: StdRng) -> Self {
        Self {
            rng,
            weather: Weather::default(),
            dark: false,
            frozen: false,
            flying: BTreeMap::new(),
            flying_bytes: 0,
            tail: None,
            arrivals: 0,
            passage: Passage::default(),
        }
    }

    /// Takes a packet in. It draws its fate even where a black hole swallows it, so that those
    /// after it meet the same one either way.
    pub(super) fn admit(&mut self, now: Instant, packet: Packet<R>) {
        self.passage.packets += 1;
        let fate = Fate::draw(&mut self.rng, &self.weather);
        if self.dark {
            self.passage.dropped += 1;
            return;
        }
        match fate {
            Fate::Drop => self.passage.dropped += 1,
            Fate::Deliver(after) => self.fly_in_turn(now, now + after, packet),
            Fate::HoldBack(after) => self.fly(now, now + after, packet),
            Fate::Duplicate(after, copy_after) => {
                self.passage.duplicated += 1;
                self.fly_in_turn(now, now + after, packet.clone());
                self.fly_in_turn(now, now + copy_after, packet);
            }
        }
    }

    /// Counts a packet that cannot be taken in.
    pub(super) fn refuse(&mut self) {
        self.passage.packets += 1;
        self.passage.dropped += 1;
    }

    /// Takes out the next packet that is due, to be reported through [`Lane::departed`].
    pub(super) fn depart(&mut self, now: Instant) -> Option<Packet<R>> {
        if self.next_due()? > now {
            return None;
        }
        let (_, packet) = self.flying.pop_first()?;
        self.flying_bytes -= packet.cost();
        Some(packet)
    }

    /// Counts a packet that was taken out: whether it was sent on.
    pub(super) fn departed(&mut self, sent: bool) {
        if sent {
            self.passage.delivered += 1;
        } else {
            self.passage.dropped += 1;
        }
    }

    /// When the next packet is due; none is while the lane is frozen.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        self.flying.first_key_value().map(|((due, _), _)| *due)
    }

    pub(super) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    pub(super) fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// A black hole swallows what is on its way, too: once it is there nothing comes out.
    pub(super) fn set_dark(&mut self, dark: bool) {
        self.dark = dark;
        if dark {
            self.passage.dropped += self.flying.len() as u64;
            self.flying.clear();
            self.flying_bytes = 0;
            self.tail = None;
        }
    }

    pub(super) fn passage(&self) -> Passage {
        self.passage
    }

    fn fly_in_turn(&mut self, now: Instant, due: Instant, packet: Packet<R>) {
        let due = self.tail.map_or(due, |tail| tail.max(due));
        self.tail = Some(due);
        self.fly(now, due, packet);
    }

    fn fly(&mut self, now: Instant, due: Instant, packet: Packet<R>) {
        if self.flying_bytes + packet.cost() > CAPACITY {
            self.passage.dropped += 1;
            return;
        }
        if self.frozen || due > now {
            self.passage.delayed += 1;
        }
        self.flying_bytes += packet.cost();
        self.arrivals += 1;
        self.flying.insert((due, self.arrivals), packet);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{Rng, SeedableRng};

    use super::*;

    const DELAY: Duration = Duration::from_millis(40);

    fn lane(weather: Weather) -> Lane<()> {
        let mut lane = Lane::new(StdRng::seed_from_u64(11));
        lane.set_weather(weather);
        lane
    }

    fn packet(number: u32) -> Packet<()> {
        Packet {
            payload: Bytes::copy_from_slice(&number.to_be_bytes()),
            route: (),
        }
    }

    fn number(packet: &Packet<()>) -> u32 {
        u32::from_be_bytes(packet.payload.as_ref().try_into().unwrap())
    }

    fn departures(lane: &mut Lane<()>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| lane.depart(now))
            .map(|packet| number(&packet))
            .collect()
    }

    #[test]
    fn a_packet_is_due_after_the_delay_and_not_before() {
        let mut lane = lane(Weather {
            delay: DELAY,
            ..Weather::default()
        });
        let now = Instant::now();
        lane.admit(now, packet(1));
        assert_eq!(lane.next_due(), Some(now + DELAY));
        assert_eq!(lane.depart(now + DELAY - Duration::from_nanos(1)), None);
        assert_eq!(lane.depart(now + DELAY), Some(packet(1)));
        assert_eq!(lane.next_due(), None);
    }

    #[test]
    fn jitter_keeps_the_order() {
        let mut lane = lane(Weather {
            jitter: DELAY,
            ..Weather::default()
        });
        let start = Instant::now();
        for n in 0..100 {
            lane.admit(start + Duration::from_millis(n.into()), packet(n));
        }
        let later = start + Duration::from_secs(1);
        assert_eq!(departures(&mut lane, later), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_packet_that_is_held_back_is_overtaken() {
        let mut lane = lane(Weather {
            delay: DELAY,
            reorder: 1.0,
            ..Weather::default()
        });
        let now = Instant::now();
        lane.admit(now, packet(1));
        lane.set_weather(Weather {
            delay: DELAY,
            ..Weather::default()
        });
        lane.admit(now, packet(2));
        assert_eq!(departures(&mut lane, now + DELAY), [2]);
        assert_eq!(departures(&mut lane, now + 2 * DELAY), [1]);
    }

    #[test]
    fn a_duplicate_comes_out_twice() {
        let mut lane = lane(Weather {
            duplicate: 1.0,
            ..Weather::default()
        });
        let now = Instant::now();
        lane.admit(now, packet(1));
        assert_eq!(departures(&mut lane, now), [1, 1]);
        assert_eq!(lane.passage().duplicated, 1);
    }

    #[test]
    fn frozen_packets_come_out_in_order_at_the_thaw() {
        let mut lane = lane(Weather::default());
        let now = Instant::now();
        lane.set_frozen(true);
        (0..10).for_each(|n| lane.admit(now, packet(n)));
        assert!(departures(&mut lane, now + DELAY).is_empty());
        lane.set_frozen(false);
        assert_eq!(departures(&mut lane, now), (0..10).collect::<Vec<_>>());
        assert_eq!(lane.passage().delayed, 10);
    }

    #[test]
    fn what_a_frozen_lane_holds_is_bounded_in_bytes() {
        let mut lane = lane(Weather::default());
        let now = Instant::now();
        lane.set_frozen(true);
        let large = Packet {
            payload: Bytes::from_static(&[0; 60_000]),
            route: (),
        };
        let fit = CAPACITY / large.cost();
        (0..fit + 5).for_each(|_| lane.admit(now, large.clone()));
        assert_eq!(lane.passage().dropped, 5);
        lane.set_frozen(false);
        assert_eq!(std::iter::from_fn(|| lane.depart(now)).count(), fit);
        lane.admit(now, large.clone());
        assert_eq!(lane.depart(now), Some(large), "what left makes room");
    }

    #[test]
    fn a_black_hole_swallows_what_comes_and_what_is_on_its_way() {
        let mut lane = lane(Weather {
            delay: DELAY,
            ..Weather::default()
        });
        let now = Instant::now();
        lane.admit(now, packet(1));
        lane.set_dark(true);
        lane.admit(now, packet(2));
        lane.set_dark(false);
        lane.set_weather(Weather::default());
        lane.admit(now, packet(3));
        assert_eq!(
            departures(&mut lane, now),
            [3],
            "and the next waits for none of them"
        );
        assert_eq!(lane.passage().dropped, 2);
    }

    #[test]
    fn a_black_hole_leaves_the_fate_of_later_packets_alone() {
        let half = Weather {
            loss: 0.5,
            ..Weather::default()
        };
        let (mut open, mut shut) = (lane(half), lane(half));
        let now = Instant::now();
        for n in 0..60 {
            shut.set_dark(n < 20);
            open.admit(now, packet(n));
            shut.admit(now, packet(n));
        }
        let later: Vec<_> = departures(&mut open, now)
            .into_iter()
            .filter(|n| *n >= 20)
            .collect();
        assert!((1..40).contains(&later.len()));
        assert_eq!(departures(&mut shut, now), later);
    }

    #[test]
    fn every_packet_is_accounted_for() {
        let storm = Weather {
            loss: 0.2,
            delay: DELAY,
            jitter: DELAY,
            duplicate: 0.3,
            reorder: 0.3,
        };
        let mut lane = lane(storm);
        let mut dice = StdRng::seed_from_u64(3);
        let mut now = Instant::now();
        for n in 0..5_000 {
            now += Duration::from_millis(dice.random_range(0..5));
            lane.set_dark(dice.random_bool(0.02));
            lane.set_frozen(dice.random_bool(0.2));
            lane.admit(now, packet(n));
            if dice.random_bool(0.01) {
                lane.refuse();
            }
            while let Some(_packet) = lane.depart(now) {
                lane.departed(dice.random_bool(0.9));
            }
            let seen = lane.passage();
            let ended = seen.delivered + seen.dropped + lane.flying.len() as u64;
            assert_eq!(seen.packets + seen.duplicated, ended);
        }
        assert!(lane.passage().packets > 5_000 && lane.passage().delivered > 1_000);
        let flying: usize = lane.flying.values().map(Packet::cost).sum();
        assert_eq!(lane.flying_bytes, flying);
    }
}
