//! Which relay to try next, and when to ask an allocator instead. Pure: what an attempt brought is
//! told, and [`Itinerary::next`] says where to go from there.
//!
//! ```text
//! start, lost     relays known from before ─> allocators ─> the relays of the answer ─┐
//! all failed      allocators ─┬─ answered ──> the relays of the answer ───────────────┤
//!                             └─ none did ──> relays known from before ───────────────┤
//!                 ^                                                                   │
//!                 └──────────────────────────── rest <────────────────────────────────┘
//! ```
//!
//! A relay that has no room at the moment is there all the same: an allocator would only name it again.
//! So as long as one of a round is busy, the next round begins with the relays that are known, and the
//! allocators are asked in every fourth only.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use holdfast_protocol::{id::Name, message::RelayAddress};

/// One address of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The relay.
    pub relay: Name,
    /// The address.
    pub address: SocketAddr,
}

/// Where to go now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Try this relay.
    Relay(Stop),
    /// Ask this allocator.
    Allocator(SocketAddr),
    /// Everything has failed: wait, this long at least, and start again.
    Rest { at_least: Duration },
    /// A relay is there, but has no room now: wait with the others, and start again.
    Queue,
}

/// Of the rounds in which a relay was busy, the one in which the allocators are asked nevertheless.
const ASKING: u32 = 4;

/// The way to the next session.
#[derive(Debug)]
pub(crate) struct Itinerary {
    allocators: Vec<SocketAddr>,
    /// The last answer of an allocator.
    known: Vec<RelayAddress>,
    /// Where the last session was.
    last: Option<Name>,
    /// The relay of the session, which is stopping.
    leaving: Option<Name>,
    stops: VecDeque<Stop>,
    asking: VecDeque<SocketAddr>,
    /// Whether the known relays have had their turn in this round.
    known_tried: bool,
    /// An allocator knew no relay, and asked to be left alone for as long.
    at_least: Duration,
    rest_first: bool,
    /// A relay of this round is busy.
    busy: bool,
    /// Such rounds since the last session.
    busy_rounds: u32,
}

impl Itinerary {
    /// From the relays remembered from earlier, if any.
    pub(crate) fn new(allocators: Vec<SocketAddr>, known: Vec<RelayAddress>) -> Self {
        let mut itinerary = Self {
            allocators,
            known,
            last: None,
            leaving: None,
            stops: VecDeque::new(),
            asking: VecDeque::new(),
            known_tried: false,
            at_least: Duration::ZERO,
            rest_first: false,
            busy: false,
            busy_rounds: 0,
        };
        itinerary.set_out();
        itinerary
    }

    /// The next step; the one before has failed, or was [`Step::Rest`].
    pub(crate) fn next(&mut self) -> Step {
        if self.take_rest() {
            let at_least = Duration::ZERO;
            return Step::Rest { at_least };
        }
        if let Some(stop) = self.stops.pop_front() {
            return Step::Relay(stop);
        }
        if std::mem::take(&mut self.busy) {
            self.busy_rounds += 1;
            if !self.busy_rounds.is_multiple_of(ASKING) {
                self.set_out();
                return Step::Queue;
            }
        }
        if let Some(allocator) = self.asking.pop_front() {
            return Step::Allocator(allocator);
        }
        if !std::mem::replace(&mut self.known_tried, true) && !self.known.is_empty() {
            self.stops = stops(&self.known);
            return self.next();
        }
        self.begin_round();
        Step::Rest {
            at_least: std::mem::take(&mut self.at_least),
        }
    }

    /// An allocator has answered with these relays, best first.
    pub(crate) fn answered(&mut self, relays: &[RelayAddress]) {
        self.known = relays.to_vec();
        self.known_tried = true;
        self.stops = stops(relays);
        self.asking.clear();
        self.at_least = Duration::ZERO;
    }

    /// An allocator knows no relay; another may.
    pub(crate) fn no_relay(&mut self, retry_after: Duration) {
        self.at_least = self.at_least.max(retry_after);
    }

    /// There is a session.
    pub(crate) fn attached(&mut self, relay: &Name) {
        self.last = Some(relay.clone());
        self.leaving = None;
        self.busy_rounds = 0;
    }

    /// The relay that was tried is there, and has no room now.
    pub(crate) fn busy(&mut self) {
        self.busy = true;
    }

    /// The next relay, whatever is to come after those that are left.
    pub(crate) fn next_stop(&mut self) -> Option<Stop> {
        self.stops.pop_front()
    }

    /// Starts anew: the relay of the last session first, then the others known, then the allocators.
    pub(crate) fn set_out(&mut self) {
        self.begin_round();
        self.leaving = None;
        let last = self.last.as_ref();
        let mut known = self.known.clone();
        known.sort_by_key(|relay| Some(&relay.name) != last);
        self.known_tried = !known.is_empty();
        self.stops = stops(&known);
    }

    /// The session did not last, as the one before it: rest before the next step.
    pub(crate) fn rest_first(&mut self) {
        self.rest_first = true;
    }

    /// Whether there was to be a rest before the next step; it is the caller's now.
    pub(crate) fn take_rest(&mut self) -> bool {
        std::mem::take(&mut self.rest_first)
    }

    /// The relay of the session is stopping: its successors first, then the others known, then the
    /// allocators. If it names none, the allocators first. May be said again of the same relay.
    pub(crate) fn go_away(&mut self, successors: &[RelayAddress]) {
        self.begin_round();
        if successors.is_empty() {
            return;
        }
        self.leaving = self.last.take().or(self.leaving.take());
        let mut relays = successors.to_vec();
        for relay in &self.known {
            let listed = successors.iter().any(|other| other.name == relay.name);
            if !listed && self.leaving.as_ref() != Some(&relay.name) {
                relays.push(relay.clone());
            }
        }
        self.known_tried = true;
        self.stops = stops(&relays);
    }

    fn begin_round(&mut self) {
        self.stops.clear();
        self.asking = self.allocators.iter().copied().collect();
        self.known_tried = false;
        self.rest_first = false;
        self.busy = false;
    }
}

fn stops(relays: &[RelayAddress]) -> VecDeque<Stop> {
    let addresses = relays.iter().flat_map(|relay| {
        relay.addresses.iter().map(|address| Stop {
            relay: relay.name.clone(),
            address: *address,
        })
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn relay(name: &str, ports: &[u16]) -> RelayAddress {
        RelayAddress {
            name: name.parse().unwrap(),
            addresses: ports.iter().map(|port| address(*port)).collect(),
        }
    }

    /// The next steps, up to a rest, in short.
    fn walk(itinerary: &mut Itinerary) -> Vec<String> {
        let mut steps = Vec::new();
        loop {
            match itinerary.next() {
                Step::Relay(stop) => steps.push(format!("{}:{}", stop.relay, stop.address.port())),
                Step::Allocator(address) => steps.push(format!("ask {}", address.port())),
                Step::Rest { .. } => return steps,
                Step::Queue => steps.push("queue".to_owned()),
            }
        }
    }

    #[test]
    fn without_memory_the_allocators_are_asked_again_and_again() {
        let mut itinerary = Itinerary::new(vec![address(1), address(2)], Vec::new());
        for _ in 0..3 {
            assert_eq!(walk(&mut itinerary), ["ask 1", "ask 2"]);
        }
    }

    #[test]
    fn every_address_of_the_answer_is_tried_before_the_allocator_is_asked_again() {
        let mut itinerary = Itinerary::new(vec![address(1)], Vec::new());
        assert_eq!(itinerary.next(), Step::Allocator(address(1)));
        itinerary.answered(&[relay("r1", &[10, 11]), relay("r2", &[20])]);
        assert_eq!(walk(&mut itinerary), ["r1:10", "r1:11", "r2:20"]);
        assert_eq!(itinerary.next(), Step::Allocator(address(1)));
        itinerary.answered(&[relay("r3", &[30])]);
        assert_eq!(walk(&mut itinerary), ["r3:30"]);
    }

    #[test]
    fn an_answer_makes_the_other_allocators_superfluous() {
        let mut itinerary = Itinerary::new(vec![address(1), address(2)], Vec::new());
        assert_eq!(itinerary.next(), Step::Allocator(address(1)));
        itinerary.answered(&[relay("r1", &[10])]);
        assert_eq!(walk(&mut itinerary), ["r1:10"]);
    }

    #[test]
    fn remembered_relays_come_before_the_allocator_and_once_a_round() {
        let mut itinerary = Itinerary::new(vec![address(1)], vec![relay("r1", &[10])]);
        assert_eq!(walk(&mut itinerary), ["r1:10", "ask 1"]);
        assert_eq!(
            walk(&mut itinerary),
            ["ask 1", "r1:10"],
            "no allocator answers"
        );
    }

    #[test]
    fn a_lost_session_is_looked_for_where_it_was() {
        let known = vec![relay("r1", &[10]), relay("r2", &[20]), relay("r3", &[30])];
        let mut itinerary = Itinerary::new(vec![address(1)], known);
        itinerary.attached(&"r2".parse().unwrap());
        itinerary.set_out();
        assert_eq!(walk(&mut itinerary), ["r2:20", "r1:10", "r3:30", "ask 1"]);
    }

    #[test]
    fn a_leaving_relay_is_followed_by_its_successors_and_not_tried() {
        let known = vec![relay("r1", &[10]), relay("r2", &[20]), relay("r3", &[30])];
        let mut itinerary = Itinerary::new(vec![address(1)], known);
        itinerary.attached(&"r1".parse().unwrap());
        for _ in 0..2 {
            itinerary.go_away(&[relay("r3", &[31])]);
            assert_eq!(walk(&mut itinerary), ["r3:31", "r2:20", "ask 1"]);
        }
        itinerary.set_out();
        let anew = ["r1:10", "r2:20", "r3:30", "ask 1"];
        assert_eq!(walk(&mut itinerary), anew, "it may be back");
    }

    #[test]
    fn a_leaving_relay_without_successors_sends_to_the_allocator() {
        let mut itinerary = Itinerary::new(vec![address(1)], vec![relay("r1", &[10])]);
        itinerary.attached(&"r1".parse().unwrap());
        itinerary.go_away(&[]);
        assert_eq!(walk(&mut itinerary), ["ask 1", "r1:10"]);
    }

    #[test]
    fn an_allocator_that_knows_no_relay_is_left_alone_for_as_long_as_it_asks() {
        let mut itinerary = Itinerary::new(vec![address(1)], Vec::new());
        itinerary.next();
        itinerary.no_relay(Duration::from_secs(7));
        let at_least = Duration::from_secs(7);
        assert_eq!(itinerary.next(), Step::Rest { at_least });
        itinerary.next();
        let at_least = Duration::ZERO;
        assert_eq!(itinerary.next(), Step::Rest { at_least }, "it holds once");
    }

    #[test]
    fn busy_relays_are_tried_again_and_the_allocators_asked_now_and_then() {
        let known = vec![relay("r1", &[10]), relay("r2", &[20])];
        let mut itinerary = Itinerary::new(vec![address(1)], known);
        let mut steps = Vec::new();
        while steps.len() < 13 {
            match itinerary.next() {
                Step::Relay(stop) => {
                    steps.push(stop.relay.to_string());
                    // r2 cannot be reached at all.
                    if stop.relay.as_str() == "r1" {
                        itinerary.busy();
                    }
                }
                Step::Queue => steps.push("queue".to_owned()),
                Step::Allocator(_) => steps.push("ask".to_owned()),
                Step::Rest { .. } => steps.push("rest".to_owned()),
            }
        }
        let round = ["r1", "r2", "queue"];
        let expected = [&round[..], &round, &round, &["r1", "r2", "ask", "rest"]].concat();
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_busy_relay_is_followed_by_the_others() {
        let known = vec![relay("r1", &[10]), relay("r2", &[20])];
        let mut itinerary = Itinerary::new(vec![address(1)], known);
        itinerary.next();
        itinerary.busy();
        assert!(matches!(itinerary.next(), Step::Relay(stop) if stop.relay.as_str() == "r2"));
        itinerary.attached(&"r2".parse().unwrap());
        itinerary.set_out();
        assert_eq!(
            walk(&mut itinerary),
            ["r2:20", "r1:10", "ask 1"],
            "forgotten"
        );
    }

    #[test]
    fn a_rest_first_skips_nothing() {
        let mut itinerary = Itinerary::new(vec![address(1)], vec![relay("r1", &[10])]);
        itinerary.attached(&"r1".parse().unwrap());
        itinerary.set_out();
        itinerary.rest_first();
        assert_eq!(walk(&mut itinerary), Vec::<String>::new());
        assert_eq!(walk(&mut itinerary), ["r1:10", "ask 1"]);
    }
}
