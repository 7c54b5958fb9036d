//! How long what was sent may be sent again, told over months of simulated time.

use bytes::Bytes;
use holdfast_protocol::{frame::FrameReader, limits::MAX_CONTROL_PAYLOAD};

use super::*;
use crate::core::{Load, Loaded};

const DAY: u64 = 24 * 3600 * 1000;
const YEAR: u64 = 365 * DAY;

/// A device and its disk. It dies and comes again with each session.
struct Device {
    outbox: Vec<Entry>,
    logbook: Logbook,
    marks: Vec<Mark>,
    /// What was put into the outbox so far.
    tail: u64,
}

/// One session, in one run of the program.
struct Visit<'a> {
    device: &'a mut Device,
    engine: Engine,
    /// Numbers that were submitted, and whether as such that may have been before.
    submitted: Vec<(u64, bool)>,
    given_up: Vec<u64>,
    unmarked: Vec<Source>,
}

impl Device {
    fn new() -> Self {
        Self {
            outbox: Vec::new(),
            logbook: Logbook::default(),
            marks: Vec::new(),
            tail: 0,
        }
    }

    /// The app sends a message while no relay can be reached.
    fn send(&mut self) -> u64 {
        self.append(self.logbook.page() + 1)
    }

    fn append(&mut self, page: u64) -> u64 {
        self.tail += 1;
        self.outbox.push(Entry {
            seq: self.tail,
            page,
            to: "alice/pc".parse().unwrap(),
            options: Options::default(),
            body: Bytes::new(),
        });
        self.tail
    }

    fn visit(&mut self, told_ms: u64) -> Visit<'_> {
        let mut visit = self.knock(told_ms);
        visit.begin();
        visit
    }

    /// A session of which the first page is not on the disk yet.
    fn knock(&mut self, told_ms: u64) -> Visit<'_> {
        let restored = Restored {
            tails: [self.tail, 0],
            marks: self.marks.clone(),
            logbook: self.logbook.clone(),
            networks: Vec::new(),
            relays: vec![relay()],
        };
        let mut visit = Visit {
            engine: Engine::new(config(), restored, Time::ZERO),
            device: self,
            submitted: Vec::new(),
            given_up: Vec::new(),
            unmarked: Vec::new(),
        };
        visit.engine.handle(at(0), Input::Connected);
        visit.engine.handle(at(10), welcome(told_ms));
        visit
    }
}

impl Visit<'_> {
    /// The page is on the disk.
    fn begin(&mut self) {
        self.obey(at(10));
        let page = self.device.logbook.page();
        self.engine.handle(at(10), Input::Begun { page });
        self.obey(at(10));
    }

    /// The session breaks, and another begins at once. The relay's clock stands still; what the
    /// program sees pass counts all the same.
    fn welcome_again(&mut self, now: Time) {
        let cut = Ending::Lost("cut".to_owned());
        self.engine.handle(now, Input::Ended(cut));
        self.engine.handle(now, Input::Connected);
        self.engine.handle(now, welcome(TOLD_MS));
        self.obey(now);
        let page = self.device.logbook.page();
        self.engine.handle(now, Input::Begun { page });
        self.obey(now);
    }

    /// The app sends a message.
    fn send(&mut self, now: Time) -> u64 {
        let seq = self.device.append(self.device.logbook.page());
        let entry = self.device.outbox.last().unwrap().clone();
        let lane = Lane::Message;
        self.engine.handle(now, Input::Appended { lane, entry });
        self.obey(now);
        seq
    }

    fn answer(&mut self, seq: u64) {
        let receipt = frame::encode(&Receipt {
            lane: Lane::Message,
            seq,
            outcome: holdfast_protocol::message::Outcome::Stored,
        });
        self.engine.handle(at(20), Input::Control(receipt));
        self.obey(at(20));
    }

    fn obey(&mut self, now: Time) {
        let mut reader = FrameReader::new(MAX_CONTROL_PAYLOAD);
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Control(bytes) => reader.push(bytes),
                Output::Store(Job::Load(load)) => {
                    let loaded = self.device.load(load);
                    self.engine.handle(now, Input::Loaded(loaded));
                }
                Output::Store(job) => self.store(job),
                Output::GivenUp { seq, .. } => self.given_up.push(seq),
                _ => {}
            }
        }
        while let Some(frame) = reader.next().unwrap() {
            if let Ok(submit) = frame.header::<Submit>() {
                self.submitted.push((submit.seq, submit.again));
            }
        }
    }

    fn store(&mut self, job: Job) {
        match job {
            Job::Begin(logbook) => self.device.logbook = logbook,
            Job::Forget { seq, .. } => self.device.outbox.retain(|entry| entry.seq != seq),
            Job::Unmark(source) => self.unmarked.push(source),
            _ => {}
        }
    }
}

impl Device {
    fn load(&self, load: Load) -> Loaded {
        let entries = self.outbox.iter().filter(|entry| entry.seq > load.after);
        Loaded {
            load,
            entries: entries.cloned().collect(),
            through: self.tail,
        }
    }
}

#[test]
fn what_was_sent_is_sent_again_for_sixty_days_and_then_given_up() {
    let mut device = Device::new();
    let first = device.send();
    assert_eq!(device.visit(TOLD_MS).submitted, [(first, false)]);
    let almost = TOLD_MS + 60 * DAY - 1;
    let visit = device.visit(almost);
    assert_eq!(
        (&visit.submitted[..], &visit.given_up[..]),
        (&[(first, true)][..], &[][..])
    );
    let mut visit = device.visit(almost + 1);
    assert_eq!(
        (&visit.submitted[..], &visit.given_up[..]),
        (&[][..], &[first][..])
    );
    let next = visit.send(at(20));
    assert_eq!(
        visit.submitted,
        [(next, false)],
        "its number is passed over"
    );
    assert_eq!(device.outbox.len(), 1, "it is gone from the disk");
}

#[test]
fn what_was_never_sent_waits_as_long_as_it_takes() {
    let mut device = Device::new();
    device.send();
    device.visit(TOLD_MS).answer(1);
    let second = device.send();
    let visit = device.visit(TOLD_MS + 3 * YEAR);
    assert_eq!(
        visit.submitted,
        [(second, false)],
        "and is new when it goes"
    );
    let visit = device.visit(TOLD_MS + 3 * YEAR + 60 * DAY);
    assert_eq!(visit.given_up, [second], "then its days are counted");
}

#[test]
fn what_is_given_up_lets_younger_ones_pass() {
    let mut device = Device::new();
    let old = [device.send(), device.send()];
    device.visit(TOLD_MS);
    let young = device.send();
    device.visit(TOLD_MS + 40 * DAY);
    let new = device.send();
    let visit = device.visit(TOLD_MS + 70 * DAY);
    assert_eq!(visit.given_up, old);
    assert_eq!(visit.submitted, [(young, true), (new, false)]);
}

#[test]
fn nothing_is_submitted_before_the_page_is_on_the_disk() {
    let mut device = Device::new();
    device.send();
    let mut visit = device.knock(TOLD_MS);
    visit.obey(at(10));
    let second = visit.send(at(20));
    assert_eq!(visit.submitted, []);
    visit.engine.handle(at(30), Input::Begun { page: 0 });
    visit.obey(at(30));
    assert_eq!(visit.submitted, [], "that was another page");
    visit.begin();
    assert_eq!(visit.submitted, [(1, false), (second, false)]);
}

#[test]
fn a_relay_that_is_years_ahead_makes_a_device_give_up_what_was_sent_and_nothing_else() {
    let mut device = Device::new();
    let sent = device.send();
    device.visit(TOLD_MS);
    let waiting = device.send();
    let visit = device.visit(TOLD_MS + 5 * YEAR);
    assert_eq!(visit.given_up, [sent]);
    assert_eq!(visit.submitted, [(waiting, false)]);
    let visit = device.visit(TOLD_MS + DAY);
    assert_eq!(visit.given_up, [], "back with a relay whose clock is right");
    let visit = device.visit(TOLD_MS + 61 * DAY);
    assert_eq!(visit.given_up, [waiting], "days count there, too");
}

#[test]
fn in_a_session_of_months_a_message_is_as_old_as_its_own_day() {
    let mut device = Device::new();
    let mut visit = device.visit(TOLD_MS);
    let first = visit.send(at(20));
    for day in 1..=70 {
        let now = at(100 + day * DAY);
        visit.engine.handle(now, Input::Timeout);
        visit.welcome_again(now);
        if day == 30 {
            visit.send(now);
        }
    }
    assert_eq!(visit.given_up, [first], "the second is 40 days old");
}

#[test]
fn a_session_begins_a_page_a_day() {
    let mut device = Device::new();
    let mut visit = device.visit(TOLD_MS);
    visit.engine.handle(at(DAY), Input::Timeout);
    visit.obey(at(DAY));
    assert_eq!(
        visit.device.logbook.page(),
        1,
        "it began 10 ms after the start"
    );
    visit.engine.handle(at(DAY + 10), Input::Timeout);
    visit.obey(at(DAY + 10));
    assert_eq!(visit.device.logbook.page(), 2);
}

#[test]
fn a_message_of_an_earlier_version_is_sent_and_ages_from_the_first_session() {
    let mut device = Device::new();
    let seq = device.append(0);
    assert_eq!(device.visit(TOLD_MS).submitted, [(seq, true)]);
    assert_eq!(device.visit(TOLD_MS + 59 * DAY).submitted, [(seq, true)]);
    assert_eq!(device.visit(TOLD_MS + 60 * DAY).given_up, [seq]);
}

#[test]
fn marks_are_forgotten_after_425_days_of_small_steps_and_not_by_a_jump() {
    let mut device = Device::new();
    let sender = Sender::Device("alice/pc".parse().unwrap());
    let source = Source {
        sender,
        epoch: 5,
        lane: Lane::Message,
    };
    device.marks = vec![mark(source.clone())];
    assert_eq!(device.visit(TOLD_MS).unmarked, []);
    let there = TOLD_MS + 9 * YEAR;
    assert_eq!(
        device.visit(there).unmarked,
        [],
        "a relay that is years ahead"
    );
    assert_eq!(device.visit(TOLD_MS).unmarked, []);
    for week in 1..=60 {
        assert_eq!(device.visit(TOLD_MS + 7 * week * DAY).unmarked, []);
    }
    assert_eq!(device.visit(TOLD_MS + 425 * DAY).unmarked, []);
    assert_eq!(device.visit(TOLD_MS + 425 * DAY + 1).unmarked, [source]);
}
