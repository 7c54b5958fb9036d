//! The edge's end of a link: decides when to dial, what to pass on, and whom what comes is for.
//!
//! The router pushes from one side, whoever carries the link drives the other; both hold the edge.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{
    id::{Lane, Name},
    message::{Ack, RelayAddress},
    time::Time,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Frames, backlog::Backlog};
use crate::{
    bell::Bell,
    core::{
        end::{End, Outgoing},
        request::Request,
    },
    mail::{
        desk::Moment,
        outlet::{Outlet, SessionId},
    },
};

/// Between two tries, at first and at most; the actual pause is random below it (full jitter).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The edge's end of a link, for as long as the relay runs; a clone is another handle on it.
#[derive(Clone)]
pub(crate) struct Edge(Arc<Inner>);

struct Inner {
    name: Name,
    /// There is something to write.
    bell: Bell,
    state: Mutex<State>,
}

struct State {
    addresses: Vec<SocketAddr>,
    backlog: Backlog,
    phase: Phase,
    /// How often it was dialled in vain since the link was up.
    failures: u32,
    rng: StdRng,
}

enum Phase {
    Resting { until: Time },
    Dialling,
    Up(Frames),
}

impl Edge {
    /// A link to a relay, not up yet.
    pub(crate) fn new(relay: RelayAddress, seed: u64) -> Self {
        let state = State {
            addresses: relay.addresses,
            backlog: Backlog::default(),
            phase: Phase::Resting { until: Time::ZERO },
            failures: 0,
            rng: StdRng::seed_from_u64(seed),
        };
        Self(Arc::new(Inner {
            name: relay.name,
            bell: Bell::default(),
            state: Mutex::new(state),
        }))
    }

    /// The other relay.
    pub(crate) fn name(&self) -> &Name {
        &self.0.name
    }

    /// Where the relay is to be dialled from now on.
    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.0.state.lock().addresses = addresses;
    }

    /// Passes a request on.
    pub(crate) fn request(&self, now: Moment, request: Request) {
        self.0.state.lock().backlog.request(now.time, request);
        self.0.bell.ring();
    }

    /// Passes on what a device acknowledged.
    pub(crate) fn ack(&self, session: SessionId, ack: Ack) {
        self.0.state.lock().backlog.ack(session, ack);
        self.0.bell.ring();
    }

    /// Passes on that a session has ended.
    pub(crate) fn detach(&self, session: SessionId) {
        self.0.state.lock().backlog.detach(session);
        self.0.bell.ring();
    }

    /// Nobody is there any more at this outlet.
    pub(crate) fn forget(&self, outlet: &Outlet) {
        self.0.state.lock().backlog.forget(outlet);
    }

    /// How many requests wait for an answer.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.state.lock().backlog.waiting()
    }

    /// When it is to be dialled; `None` while it is, or is up.
    pub(crate) fn rests_until(&self) -> Option<Time> {
        match self.0.state.lock().phase {
            Phase::Resting { until } => Some(until),
            Phase::Dialling | Phase::Up(_) => None,
        }
    }

    /// The rest is over: where to dial, the best address first. Answer with
    /// [`linked`](Self::linked) or [`unlinked`](Self::unlinked).
    pub(crate) fn dial(&self) -> Vec<SocketAddr> {
        let mut state = self.0.state.lock();
        state.phase = Phase::Dialling;
        state.addresses.clone()
    }

    /// The link is up: every device is attached, and what was not answered is passed again.
    pub(crate) fn linked(&self, now: Moment) {
        let mut state = self.0.state.lock();
        state.failures = 0;
        state.backlog.connect(now.time);
        state.phase = Phase::Up(Frames::new());
        self.0.bell.ring();
    }

    /// None of the addresses answered, or the link broke.
    pub(crate) fn unlinked(&self, now: Moment) {
        let mut state = self.0.state.lock();
        if let Phase::Up(_) = state.phase {
            state.backlog.disconnect();
        }
        let pause = state.pause();
        state.phase = Phase::Resting {
            until: now.time + pause,
        };
    }
}

impl State {
    fn pause(&mut self) -> Duration {
        let doubled = BACKOFF.0.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.rng
            .random_range(Duration::ZERO..=doubled.min(BACKOFF.1))
    }

    fn hand_over(&mut self) {
        if let Phase::Up(frames) = &mut self.phase {
            for (lane, frame) in self.backlog.outgoing.drain(..) {
                frames.write(lane, frame);
            }
        }
    }
}

impl End for Edge {
    fn bell(&self) -> Bell {
        self.0.bell.clone()
    }

    fn control(&mut self, _now: Moment, bytes: Bytes) {
        let state = &mut *self.0.state.lock();
        let Phase::Up(frames) = &mut state.phase else {
            return;
        };
        frames.read(bytes);
        while let Some(frame) = frames.next() {
            let handled = state.backlog.handle(Lane::Message, &frame);
            frames.close_on_violation(handled);
        }
    }

    fn bulk(&mut self, _now: Moment, bytes: Bytes) {
        let state = &mut *self.0.state.lock();
        let Phase::Up(frames) = &mut state.phase else {
            return;
        };
        if let Some(frame) = frames.whole(bytes) {
            let handled = state.backlog.handle(Lane::Bulk, &frame);
            frames.close_on_violation(handled);
        }
    }

    fn hand_over(&mut self, _now: Moment) {
        self.0.state.lock().hand_over();
    }

    fn poll(&mut self) -> Option<Outgoing> {
        match &mut self.0.state.lock().phase {
            Phase::Up(frames) => frames.outgoing.pop_front(),
            Phase::Resting { .. } | Phase::Dialling => None,
        }
    }

    fn leave(&mut self, now: Moment) {
        self.unlinked(now);
    }
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::peer::{Attach, Detach};

    use super::*;
    use crate::core::link::bare;

    fn edge() -> Edge {
        let relay = RelayAddress {
            name: "r2".parse().unwrap(),
            addresses: vec![([127, 0, 0, 1], 4433).into()],
        };
        Edge::new(relay, 7)
    }

    fn at(time: Time) -> Moment {
        Moment { time, wall_ms: 0 }
    }

    #[test]
    fn it_dials_at_once_then_ever_more_rarely_up_to_a_limit() {
        let (edge, mut now) = (edge(), Time::ZERO);
        assert_eq!(edge.rests_until(), Some(Time::ZERO));
        for failures in 0..20 {
            assert_eq!(edge.dial().len(), 1);
            assert_eq!(edge.rests_until(), None, "it is being dialled");
            edge.unlinked(at(now));
            let until = edge.rests_until().unwrap();
            let most = (BACKOFF.0 * 2_u32.pow(failures.min(10))).min(BACKOFF.1);
            assert!(until.since(now) <= most, "{failures}: {until:?}");
            now = until;
        }
        edge.dial();
        edge.linked(at(now));
        edge.unlinked(at(now));
        assert!(edge.rests_until().unwrap().since(now) <= BACKOFF.0);
    }

    #[test]
    fn what_a_home_may_not_send_closes_the_link_and_nothing_follows() {
        let mut edge = edge();
        edge.linked(at(Time::ZERO));
        edge.control(at(Time::ZERO), bare(&Detach { session: 1 }).head);
        assert!(matches!(edge.poll(), Some(Outgoing::Close(_))));
        edge.detach(1);
        edge.hand_over(at(Time::ZERO));
        let attach = Attach {
            session: 1,
            device: "alice/phone".parse().unwrap(),
            outbox: 1,
            inbox: 1,
            age_ms: 0,
        };
        edge.control(at(Time::ZERO), bare(&attach).head);
        assert_eq!(edge.poll(), None);
    }

    #[test]
    fn nothing_leaves_while_the_link_is_down() {
        let mut edge = edge();
        edge.hand_over(at(Time::ZERO));
        assert_eq!(edge.poll(), None);
        assert!(!edge.bell().take());
        edge.linked(at(Time::ZERO));
        assert!(edge.bell().take());
    }
}
