use std::{net::SocketAddr, time::Duration};

use holdfast_protocol::{
    id::{Lane, MessageId, Sender},
    message::{Options, Outcome, Refusal},
    time::Time,
};

use super::{upkeep::SWEEP, *};
use crate::{
    mail::{
        message::Message,
        online::Session,
        outlet::{Asker, Outbound, Question},
    },
    store::memory::MemoryStore,
};

/// A router of relay `r1` with its store, and links that are never up.
struct Fixture {
    router: Router,
    store: MemoryStore,
}

impl Fixture {
    fn new() -> Self {
        Self::with(MemoryStore::default(), Rules::default())
    }

    fn with(store: MemoryStore, rules: Rules) -> Self {
        let router = Router::new(
            (name("r1"), BOOT),
            rules,
            Arc::new(store.clone()),
            Arc::default(),
            Links::new(7),
        );
        Self { router, store }
    }

    fn found(&self, account: &str, home: &str) {
        let home = RelayAddress {
            name: name(home),
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 4433))],
        };
        self.router.found(START, &name(account), &home).unwrap();
    }

    fn submit(&self, seq: u64, to: &str, outlet: &Outlet) {
        self.router.request(START, submit(seq, to, outlet)).unwrap();
    }

    /// The accounts whose homes are to be asked for.
    fn asked(&self) -> Vec<Name> {
        self.router.take_asks()
    }

    /// How many requests wait for another relay's answer.
    fn waiting(&self, relay: &str) -> usize {
        let edge = self.router.0.links.edge(&name(relay));
        edge.map_or(0, |edge| edge.waiting())
    }

    /// Does what is due, as the router's own task would.
    fn work(&self) {
        self.router.work(START);
    }

    fn sweep(&self) {
        let sweep = self.router.0.state.lock().next_sweep;
        self.router.0.sweep(later(sweep.since(START.time))).unwrap();
    }

    fn attach(&self, id: u64, device: &str) -> Attachment {
        let attachment = Attachment {
            session: Session {
                id,
                outlet: Outlet::new(),
                since: Time::at(Duration::from_secs(id)),
                via: None,
            },
            device: device.parse().unwrap(),
            inbox: 1,
            outbox: 1,
        };
        self.router
            .request(START, Request::Attach(attachment.clone()))
            .unwrap();
        attachment
    }
}

const BOOT: Boot = Boot {
    number: 1,
    reading: None,
};

const START: Moment = Moment {
    time: Time::ZERO,
    wall_ms: 1_700_000_000_000,
};

/// So much later.
fn later(span: Duration) -> Moment {
    Moment {
        time: START.time + span,
        ..START
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn submit(seq: u64, to: &str, outlet: &Outlet) -> Request {
    let lane = Lane::Message;
    let id = MessageId {
        sender: Sender::Service(name("push")),
        epoch: 7,
        lane,
        seq,
    };
    Request::Submit {
        message: Message {
            id,
            to: to.parse().unwrap(),
            options: Options::default(),
            body: Bytes::from_static(b"hi"),
            again: false,
        },
        asker: Asker {
            outlet: outlet.clone(),
            question: Question::Submitted { lane, seq },
        },
    }
}

fn answers(outlet: &Outlet) -> Vec<(u64, Outcome)> {
    let answer = |outbound| match outbound {
        Outbound::Answer {
            question: Question::Submitted { seq, .. },
            outcome,
        } => (seq, outcome),
        other => panic!("{other:?}"),
    };
    outlet.take().into_iter().map(answer).collect()
}

fn delivered(outlet: &Outlet) -> Vec<u64> {
    let seq = |outbound| match outbound {
        Outbound::Deliver { deliver, .. } => deliver.seq,
        other => panic!("{other:?}"),
    };
    outlet.take().into_iter().map(seq).collect()
}

#[test]
fn what_came_before_the_home_was_known_is_carried_out_in_its_order() {
    let (relay, outlet) = (Fixture::new(), Outlet::new());
    relay.submit(1, "alice/phone", &outlet);
    let phone = relay.attach(1, "alice/phone");
    relay.submit(2, "alice/phone", &outlet);
    assert_eq!(relay.asked(), [name("alice")], "once");
    assert_eq!(answers(&outlet), []);
    relay.found("alice", "r1");
    relay.submit(3, "alice/phone", &outlet);
    relay.work();
    assert_eq!(answers(&outlet), [(1, Outcome::Stored)]);
    assert_eq!(delivered(&phone.session.outlet), [1, 2, 3]);
}

#[test]
fn a_device_that_left_before_its_home_was_known_is_not_attached() {
    let (relay, outlet) = (Fixture::new(), Outlet::new());
    let phone = relay.attach(1, "alice/phone");
    relay.submit(1, "alice/phone", &outlet);
    relay.router.detach(START, &phone).unwrap();
    relay.found("alice", "r1");
    relay.work();
    assert_eq!(answers(&outlet), [(1, Outcome::Stored)]);
    assert_eq!(phone.session.outlet.take(), []);
}

#[test]
fn a_session_that_ended_takes_only_its_own_requests_along() {
    let (relay, gone, here) = (Fixture::new(), Outlet::new(), Outlet::new());
    relay.submit(1, "alice/phone", &gone);
    relay.submit(2, "alice/phone", &here);
    relay.submit(1, "bob/phone", &gone);
    relay.router.forget(&gone);
    relay.submit(2, "bob/phone", &here);
    assert_eq!(relay.asked(), [name("alice"), name("bob")]);
    relay.found("alice", "r1");
    relay.found("bob", "r1");
    relay.work();
    assert_eq!(answers(&here), [(2, Outcome::Stored), (2, Outcome::Stored)]);
    for account in ["alice", "bob"] {
        let rows = relay.store.load(&name(account)).unwrap();
        assert_eq!(rows.messages.len(), 1, "{account}");
    }
}

#[test]
fn what_the_store_knows_is_at_home_here_without_asking() {
    let (relay, outlet) = (Fixture::new(), Outlet::new());
    relay.submit(1, "alice/phone", &outlet);
    relay.found("alice", "r1");
    relay.asked();
    let relay = Fixture::with(relay.store, Rules::default());
    let phone = relay.attach(1, "alice/phone");
    assert_eq!(relay.asked(), []);
    assert_eq!(delivered(&phone.session.outlet), [1]);
}

#[test]
fn who_sends_more_than_can_wait_is_turned_away_and_nothing_of_it_passes_afterwards() {
    let (relay, greedy, other) = (Fixture::new(), Outlet::new(), Outlet::new());
    let large = |seq| match submit(seq, "alice/phone", &greedy) {
        Request::Submit { mut message, asker } => {
            message.body = Bytes::from(vec![0; 16 * 1024 * 1024]);
            Request::Submit { message, asker }
        }
        other => panic!("{other:?}"),
    };
    for seq in 1..=5 {
        relay.router.request(START, large(seq)).unwrap();
    }
    assert!(greedy.is_shut());
    relay.found("alice", "r1");
    relay.submit(6, "alice/phone", &greedy);
    relay.submit(1, "bob/phone", &other);
    assert!(!other.is_shut(), "there is room again");
    relay.work();
    let rows = relay.store.load(&name("alice")).unwrap();
    assert_eq!(
        rows.messages,
        [],
        "the greedy one starts again from the oldest"
    );
}

#[test]
fn what_is_at_home_elsewhere_goes_there_and_not_on_from_there() {
    let (relay, outlet) = (Fixture::new(), Outlet::new());
    relay.submit(1, "bob/phone", &outlet);
    relay.found("bob", "r2");
    relay.submit(2, "bob/phone", &outlet);
    let request = submit(3, "bob/phone", &outlet);
    relay.router.request_from_peer(START, request).unwrap();
    assert_eq!(relay.waiting("r2"), 2);
    assert!(!relay.store.knows(&name("bob")).unwrap());
    relay.router.forget(&outlet);
    assert_eq!(relay.waiting("r2"), 0);
}

#[test]
fn what_is_held_is_written_when_its_time_has_come() {
    let (relay, outlet) = (Fixture::new(), Outlet::new());
    let phone = relay.attach(1, "alice/phone");
    relay.found("alice", "r1");
    relay.work();
    phone.session.outlet.take();
    relay.submit(1, "alice/phone", &outlet);
    let due = relay.router.deadline();
    assert!(due > START.time && due < START.time + SWEEP, "{due:?}");
    assert!(relay.router.bell().take(), "the deadline has moved closer");
    relay.work();
    assert_eq!(answers(&outlet), [], "not yet");
    let due = due.since(START.time);
    relay.router.work(later(due));
    relay.router.work(later(due));
    assert_eq!(answers(&outlet), [(1, Outcome::Stored)]);
    assert_eq!(relay.router.deadline(), START.time + SWEEP);
}

#[test]
fn accounts_leave_the_memory_when_the_store_knows_everything_about_them() {
    let rules = Rules {
        max_settled: 1,
        ..Rules::default()
    };
    let (relay, outlet) = (Fixture::with(MemoryStore::default(), rules), Outlet::new());
    for account in ["alice", "bob", "carol"] {
        relay.submit(1, &format!("{account}/phone"), &outlet);
        relay.found(account, "r1");
    }
    let resident = || relay.router.0.state.lock().residents.len();
    relay.sweep();
    assert_eq!(resident(), 3, "they wait for their answers");
    relay.work();
    assert_eq!(answers(&outlet).len(), 3);
    relay.sweep();
    assert_eq!(resident(), 1);
    for account in ["alice", "bob", "carol"] {
        let device = format!("{account}/phone");
        let attached = relay.attach(1, &device);
        assert_eq!(delivered(&attached.session.outlet), [1]);
    }
    relay.sweep();
    assert_eq!(resident(), 3, "they are attached");
}

#[test]
fn a_refusal_does_not_keep_an_account_in_memory() {
    let rules = Rules {
        max_settled: 0,
        ..Rules::default()
    };
    let (relay, outlet) = (Fixture::with(MemoryStore::default(), rules), Outlet::new());
    relay.submit(1, "alice", &outlet);
    relay.found("alice", "r1");
    assert_eq!(answers(&outlet), [(1, Outcome::Refused(Refusal::NoDevice))]);
    relay.sweep();
    assert_eq!(relay.router.0.state.lock().residents.len(), 0);
}
