//! The only pump between QUIC and what is decided of a connection: carries bytes both ways, and
//! brings the time.

use std::{future, mem, net::SocketAddr, time::Duration};

use holdfast_transport::{
    Ending,
    wire::{Incoming, Wire},
};
use tokio::sync::watch;

use crate::{
    breath::Breath,
    clock::Clock,
    core::end::{End, Outgoing, Tide},
};

/// How many things that come are taken before the other connections have their turn: a few
/// packets, each of some ten small messages.
const BREATH: u32 = 8;

/// One connection, and the end of it that decides.
pub(crate) struct Pump<E> {
    wire: Wire,
    end: E,
    clock: Clock,
    /// Whether the relay goes on; `None` if the end does not care.
    tide: Option<watch::Receiver<Tide>>,
    told_to_go: bool,
    /// Whether the last that came was a ping: as often as not, nothing else comes for long.
    may_rest: bool,
}

impl<E: End> Pump<E> {
    /// A pump for a connection that is up. Boxed, as the future of whoever is given a value, and hands
    /// it on, has room for it more than once.
    pub(crate) fn new(wire: Wire, end: E, clock: Clock) -> Box<Self> {
        Box::new(Self {
            wire,
            end,
            clock,
            tide: None,
            told_to_go: false,
            may_rest: false,
        })
    }

    /// Tells the end when the tide turns.
    pub(crate) fn with_tide(mut self: Box<Self>, tide: watch::Receiver<Tide>) -> Box<Self> {
        self.tide = Some(tide);
        self
    }

    /// Carries until the connection ends.
    pub(crate) async fn run(mut self: Box<Self>) -> Ending {
        let ending = self.carry().await;
        self.end.leave(self.clock.now());
        ending
    }

    async fn carry(&mut self) -> Ending {
        let bell = self.end.bell();
        // One timer for the whole session, set anew each time round.
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut breath = Breath::of(BREATH);
        loop {
            if let Some(ending) = self.perform() {
                return ending;
            }
            self.rest();
            let deadline = self.end.deadline().map(|time| self.clock.instant(time));
            if let Some(deadline) = deadline.filter(|deadline| *deadline != timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                incoming = self.wire.next() => match incoming {
                    Ok(incoming) => self.take(incoming),
                    Err(ending) => return ending,
                },
                () = bell.rung() => self.end.hand_over(self.clock.now()),
                () = &mut timer, if deadline.is_some() => self.end.timeout(self.clock.now()),
                tide = turned(&mut self.tide, self.told_to_go) => self.turn(tide),
            }
            breath.spend().await;
        }
    }

    /// Does what the end asks for, until it asks for nothing more or has closed the connection.
    fn perform(&mut self) -> Option<Ending> {
        self.give_out().or_else(|| {
            self.end.set_backlog(self.clock.now(), self.wire.backlog());
            self.give_out()
        })
    }

    fn give_out(&mut self) -> Option<Ending> {
        while let Some(outgoing) = self.end.poll() {
            match outgoing {
                Outgoing::Control(bytes) => self.wire.control(bytes),
                Outgoing::Bulk(frame) => self.wire.bulk(frame),
                Outgoing::Datagram(bytes) => {
                    // A pong that cannot be sent is one that was lost: the device asks again.
                    let _ = self.wire.datagram(bytes);
                }
                Outgoing::Close(violation) => {
                    self.wire.close(&violation);
                    return Some(violation.into());
                }
            }
        }
        None
    }

    /// Gives back memory after a ping, which is seldom enough to cost nothing.
    fn rest(&mut self) {
        if mem::take(&mut self.may_rest) {
            self.wire.rest();
            self.end.rest();
        }
    }

    fn take(&mut self, incoming: Incoming) {
        let now = self.clock.now();
        self.may_rest = matches!(incoming, Incoming::Datagram(_));
        match incoming {
            Incoming::Control(bytes) => self.end.control(now, bytes),
            Incoming::Bulk(bytes) => self.end.bulk(now, bytes),
            Incoming::Datagram(bytes) => self.end.datagram(now, bytes, self.observed()),
        }
    }

    /// The other side's address, as others write it.
    fn observed(&self) -> SocketAddr {
        let address = self.wire.connection().remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    fn turn(&mut self, tide: Tide) {
        self.told_to_go = true;
        self.end.turn(self.clock.now(), tide);
    }
}

/// Waits for the tide to turn; who was told to go waits for the stop.
async fn turned(tide: &mut Option<watch::Receiver<Tide>>, told_to_go: bool) -> Tide {
    let Some(tide) = tide else {
        return future::pending().await;
    };
    let news = |tide: &Tide| match tide {
        Tide::Running => false,
        Tide::Draining(_) => !told_to_go,
        Tide::Stopping => true,
    };
    let turned = tide.wait_for(news).await.map(|tide| tide.clone());
    match turned {
        Ok(tide) => tide,
        Err(_) => future::pending().await,
    }
}
