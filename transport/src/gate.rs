//! Who may begin a handshake; when, is the [line](crate::line)'s. Each costs a signature, a chain to
//! verify, and memory until it is over. Nothing here needs an answer from the other side, for it may
//! not exist.
//!
//! Whoever forges addresses never sees a Retry (RFC 9000, section 8.1.2). So what an unproven address
//! can get is little, and taken first: it is asked for proof as soon as many handshakes are under way,
//! or its subnet is over its rate. What a proven address did counts for its own subnet, and nobody
//! can use up another's.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_protocol::{
    pace::{Bucket, Rate},
    time::Time,
};
use parking_lot::Mutex;
use quinn::{Endpoint, Incoming};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many subnets are remembered, of each sort. Each takes some 50 bytes.
const MAX_SUBNETS: usize = 16_384;

/// How many times [`HandshakeLimits::max`] may linger before nobody else may come.
const MAX_LINGERING: usize = 16;

/// What may come in at a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandshakeLimits {
    /// Handshakes under way at a time, those that wait for their turn included; further ones are turned
    /// away.
    pub max: usize,
    /// Handshakes under way at a time before whoever comes must first prove that its address is its
    /// own.
    pub prove_above: usize,
    /// How long one may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Handshakes that begin each second, on average; 0 for no limit. Who comes sooner waits for up to a
    /// second, and who would have to wait longer is turned away.
    pub rate: u64,
    /// Handshakes that begin at once.
    pub burst: u64,
    /// Handshakes a second from one subnet (IPv4: /24, IPv6: /56), on average; 0 for no limit.
    pub subnet_rate: u64,
    /// Handshakes from one subnet at once.
    pub subnet_burst: u64,
    /// Whether the rate holds for this machine, too.
    pub limit_loopback: bool,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self {
            max: 1024,
            prove_above: 256,
            timeout: Duration::from_secs(5),
            rate: 1_000,
            burst: 5,
            subnet_rate: 200,
            subnet_burst: 2_000,
            limit_loopback: false,
        }
    }
}

/// How many were let in and sent away, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateFigures {
    /// Handshakes under way, or waiting for their turn.
    pub under_way: usize,
    /// Let in, and begun.
    pub admitted: u64,
    /// Let in, but not at once: they have to wait for their turn, or had to.
    pub delayed: u64,
    /// Asked for proof of their address.
    pub retried: u64,
    /// Left without an answer: their subnet was over its rate.
    pub ignored: u64,
    /// Refused: too many were under way, or waited.
    pub refused: u64,
}

/// The door of an endpoint.
pub struct Gate {
    limits: HandshakeLimits,
    room: Arc<Semaphore>,
    subnets: Mutex<Subnets>,
    started: Instant,
    admitted: AtomicU64,
    delayed: AtomicU64,
    retried: AtomicU64,
    ignored: AtomicU64,
    refused: AtomicU64,
}

impl Gate {
    /// An open door.
    pub fn new(limits: HandshakeLimits) -> Self {
        let rate = Rate {
            per_second: limits.subnet_rate,
            burst: limits.subnet_burst,
        };
        Self {
            room: Arc::new(Semaphore::new(limits.max)),
            subnets: Mutex::new(Subnets::new(rate)),
            limits,
            started: Instant::now(),
            admitted: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// How often a handshake may begin.
    pub(crate) fn rate(&self) -> Rate {
        Rate {
            per_second: self.limits.rate,
            burst: self.limits.burst,
        }
    }

    /// How long a handshake may take.
    pub fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// Decides on one that comes: it may begin, with a permit to be let go when the handshake is over,
    /// or was sent away in whichever way.
    ///
    /// What the endpoint has besides the `served` connections lingers. Most of that is on its way
    /// out; but one whose first packet closes it stays until its idle timeout (quinn-proto 0.11.19
    /// sets no other timer), and a forged address is enough to leave it here.
    pub(crate) fn admit(
        &self,
        incoming: Incoming,
        endpoint: &Endpoint,
        served: usize,
    ) -> Option<(Incoming, OwnedSemaphorePermit)> {
        let lingering = endpoint.open_connections().saturating_sub(served);
        let proven = incoming.remote_address_validated();
        match self.judge(incoming.remote_address().ip(), proven, lingering) {
            Verdict::Begin(permit) => return Some((incoming, permit)),
            Verdict::Prove => {
                count(&self.retried);
                // Fails only for a proven address, which is never asked for proof.
                let _ = incoming.retry();
            }
            Verdict::Ignore => {
                count(&self.ignored);
                incoming.ignore();
            }
            Verdict::Refuse => self.refuse(incoming),
        }
        None
    }

    /// Sends one away that may try again: there is no room for it now.
    pub(crate) fn refuse(&self, incoming: Incoming) {
        count(&self.refused);
        incoming.refuse();
    }

    /// One more has to wait for its turn.
    pub(crate) fn delayed(&self) {
        count(&self.delayed);
    }

    /// One more begins.
    pub(crate) fn admitted(&self) {
        count(&self.admitted);
    }

    /// How it stands.
    pub fn figures(&self) -> GateFigures {
        GateFigures {
            under_way: self.under_way(),
            admitted: self.admitted.load(Ordering::Relaxed),
            delayed: self.delayed.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            ignored: self.ignored.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn under_way(&self) -> usize {
        self.limits
            .max
            .saturating_sub(self.room.available_permits())
    }

    fn judge(&self, address: IpAddr, proven: bool, lingering: usize) -> Verdict {
        if !proven && self.under_way().max(lingering) >= self.limits.prove_above {
            return Verdict::Prove;
        }
        if lingering >= self.limits.max.saturating_mul(MAX_LINGERING) {
            return Verdict::Refuse;
        }
        let now = Time::at(self.started.elapsed());
        let limited = self.limits.limit_loopback || !address.to_canonical().is_loopback();
        if limited && !self.subnets.lock().take(Subnet::of(address), proven, now) {
            return if proven {
                Verdict::Ignore
            } else {
                Verdict::Prove
            };
        }
        match self.room.clone().try_acquire_owned() {
            Ok(permit) => Verdict::Begin(permit),
            Err(_) => Verdict::Refuse,
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

enum Verdict {
    Begin(OwnedSemaphorePermit),
    Prove,
    Ignore,
    Refuse,
}

/// Whom one network operator's customer can be taken for: an IPv4 /24, an IPv6 /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Subnet(u64);

impl Subnet {
    fn of(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(v4) => (v4 & std::net::Ipv4Addr::new(255, 255, 255, 0)).to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        match bits.to_ipv4_mapped() {
            // No IPv6 subnet that is in use begins with zeros.
            Some(v4) => Self(u64::from(u32::from(v4))),
            None => Self(upper_half(bits) & !0xff),
        }
    }
}

fn upper_half(address: Ipv6Addr) -> u64 {
    u64::try_from(u128::from(address) >> 64).unwrap_or(u64::MAX)
}

/// How often full buckets are looked for, at most: that reads all of them.
const SWEEP: Duration = Duration::from_secs(1);

/// The buckets of the subnets that are not full.
struct Subnets {
    rate: Rate,
    swept: Option<Time>,
    proven: HashMap<Subnet, Bucket>,
    unproven: HashMap<Subnet, Bucket>,
}

impl Subnets {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            swept: None,
            proven: HashMap::new(),
            unproven: HashMap::new(),
        }
    }

    fn take(&mut self, subnet: Subnet, proven: bool, now: Time) -> bool {
        if self.rate == Rate::UNLIMITED || self.rate.per_second == 0 {
            return true;
        }
        let fullest = self.proven.len().max(self.unproven.len());
        let is_due = self.swept.is_none_or(|swept| now.since(swept) >= SWEEP);
        if fullest >= MAX_SUBNETS && is_due {
            self.swept = Some(now);
            self.sweep(now);
        }
        let buckets = if proven {
            &mut self.proven
        } else {
            &mut self.unproven
        };
        if buckets.len() >= MAX_SUBNETS && !buckets.contains_key(&subnet) {
            // As many proven ones at once is a crowd, for which there is the limit on handshakes
            // under way; as many unproven ones are a flood.
            return proven;
        }
        let bucket = buckets.entry(subnet);
        bucket.or_insert_with(|| Bucket::new(self.rate)).take(now)
    }

    fn sweep(&mut self, now: Time) {
        for buckets in [&mut self.proven, &mut self.unproven] {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";
    const NEAR: &str = "192.0.2.200";
    const ELSEWHERE: &str = "192.0.3.1";

    fn gate(change: impl FnOnce(&mut HandshakeLimits)) -> Gate {
        let mut limits = HandshakeLimits {
            max: 8,
            prove_above: 4,
            subnet_rate: 1,
            subnet_burst: 3,
            ..HandshakeLimits::default()
        };
        change(&mut limits);
        Gate::new(limits)
    }

    fn verdict(gate: &Gate, address: &str, proven: bool) -> Verdict {
        gate.judge(address.parse().unwrap(), proven, 0)
    }

    #[test]
    fn whoever_comes_while_many_are_under_way_proves_its_address_first() {
        let gate = gate(|limits| limits.subnet_rate = 0);
        let mut under_way = Vec::new();
        while let Verdict::Begin(permit) = verdict(&gate, HERE, false) {
            under_way.push(permit);
        }
        assert_eq!(under_way.len(), 4);
        assert!(matches!(verdict(&gate, ELSEWHERE, false), Verdict::Prove));
        while let Verdict::Begin(permit) = verdict(&gate, HERE, true) {
            under_way.push(permit);
        }
        assert_eq!(under_way.len(), 8);
        assert!(matches!(verdict(&gate, HERE, true), Verdict::Refuse));
        under_way.clear();
        assert!(matches!(verdict(&gate, HERE, false), Verdict::Begin(_)));
    }

    #[test]
    fn a_subnet_over_its_rate_proves_its_addresses_and_is_left_without_an_answer_past_that() {
        let gate = gate(|_| {});
        for _ in 0..3 {
            assert!(matches!(verdict(&gate, HERE, false), Verdict::Begin(_)));
        }
        assert!(matches!(verdict(&gate, NEAR, false), Verdict::Prove));
        for _ in 0..3 {
            assert!(matches!(verdict(&gate, NEAR, true), Verdict::Begin(_)));
        }
        assert!(matches!(verdict(&gate, HERE, true), Verdict::Ignore));
        assert!(matches!(
            verdict(&gate, ELSEWHERE, false),
            Verdict::Begin(_)
        ));
    }

    #[test]
    fn this_machine_is_limited_only_if_that_is_wanted() {
        for (limit_loopback, passed) in [(false, true), (true, false)] {
            let gate = gate(|limits| limits.limit_loopback = limit_loopback);
            for _ in 0..3 {
                verdict(&gate, "::ffff:127.0.0.1", true);
            }
            let last = verdict(&gate, "127.0.0.1", true);
            assert_eq!(matches!(last, Verdict::Begin(_)), passed);
        }
    }

    #[test]
    fn subnets_are_what_one_customer_has() {
        let subnet = |address: &str| Subnet::of(address.parse().unwrap());
        assert_eq!(subnet(HERE), subnet(NEAR));
        assert_eq!(subnet(HERE), subnet("::ffff:192.0.2.9"));
        assert_ne!(subnet(HERE), subnet(ELSEWHERE));
        assert_eq!(subnet("2001:db8:0:ff00::1"), subnet("2001:db8:0:ffff::2"));
        assert_ne!(subnet("2001:db8:0:ff00::1"), subnet("2001:db8:0:fe00::1"));
    }

    #[test]
    fn a_million_forged_subnets_take_no_more_room_than_many() {
        let mut subnets = Subnets::new(Rate {
            per_second: 1,
            burst: 1,
        });
        let passed = (0..1_000_000_u64)
            .filter(|number| subnets.take(Subnet(number << 8), false, Time::ZERO))
            .count();
        assert_eq!((passed, subnets.unproven.len()), (MAX_SUBNETS, MAX_SUBNETS));
        assert!(
            subnets.take(Subnet(7), true, Time::ZERO),
            "who is proven is let in"
        );
        let later = Time::at(Duration::from_secs(2));
        assert!(
            subnets.take(Subnet(1 << 40), false, later),
            "full buckets are forgotten"
        );
        assert_eq!(subnets.unproven.len(), 1);
    }

    #[test]
    fn connections_that_linger_count_as_under_way_for_an_unproven_address() {
        let gate = gate(|_| {});
        let judge = |proven, lingering| gate.judge(HERE.parse().unwrap(), proven, lingering);
        assert!(matches!(judge(false, 3), Verdict::Begin(_)));
        assert!(matches!(judge(false, 4), Verdict::Prove));
        assert!(matches!(judge(true, 127), Verdict::Begin(_)));
        assert!(matches!(judge(true, 128), Verdict::Refuse));
    }
}
