//! Senders that flood a relay whose disk takes its time, and devices that come late.

use std::collections::BTreeMap;

use holdfast_durable::{Batch, Done, ReadError, RowsInOrder};
use holdfast_protocol::{
    frame::{self, FrameType},
    limits::WINDOW,
    message::Receipt,
};
use parking_lot::Mutex;

use super::{lone::Lone, *};

/// Rows that are durable when somebody says so.
#[derive(Clone, Default)]
struct LateRows {
    rows: MemoryRows,
    late: Arc<Mutex<Vec<Done>>>,
}

impl LateRows {
    /// How many commits became durable.
    fn sync(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock());
        late.into_iter().map(|done| done()).count()
    }
}

impl Store for LateRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.rows.get(key)
    }

    fn scan(&self, prefix: &[u8]) -> RowsInOrder<'_> {
        self.rows.scan(prefix)
    }

    fn commit(&self, batch: Batch, done: Done) {
        self.rows.write(batch);
        self.late.lock().push(done);
    }

    fn write(&self, batch: Batch) {
        self.rows.write(batch);
    }
}

/// A relay, and what each connection was told.
struct Scene {
    lone: Lone,
    disk: LateRows,
    answered: BTreeMap<Conn, Vec<u64>>,
    told_to_go: Vec<Conn>,
}

impl Scene {
    fn new() -> Self {
        let disk = LateRows::default();
        let lone = Lone::boot(Settings::new(name("r1")), Arc::new(disk.clone()));
        disk.sync();
        Self {
            lone,
            disk,
            answered: BTreeMap::new(),
            told_to_go: Vec::new(),
        }
    }

    fn connect(&mut self, device: &str) -> Conn {
        self.lone.connect(device)
    }

    fn greet(&mut self, conn: Conn) {
        self.lone.greet(conn);
        self.carry();
    }

    fn attach(&mut self, device: &str) -> Conn {
        let conn = self.connect(device);
        self.greet(conn);
        conn
    }

    fn submit(&mut self, conn: Conn, numbers: impl IntoIterator<Item = u64>, to: &str) {
        for seq in numbers {
            let submit = Submit {
                seq,
                to: to.parse().unwrap(),
                options: Options::default(),
                again: false,
            };
            let bytes = frame::encode_with_body(&submit, "hi".into()).concat();
            self.lone.relay.control(self.lone.now, conn, bytes);
        }
        self.carry();
    }

    /// What was written becomes durable, and what comes of it is said.
    fn sync(&mut self) -> usize {
        let durable = self.disk.sync();
        self.lone.relay.timeout(self.lone.now);
        self.carry();
        durable
    }

    fn carry(&mut self) {
        for (conn, frame) in self.lone.hear() {
            match frame.kind {
                FrameType::Receipt => {
                    let receipt: Receipt = frame.header().unwrap();
                    assert_eq!(receipt.outcome, Outcome::Stored);
                    self.answered.entry(conn).or_default().push(receipt.seq);
                }
                FrameType::GoAway => self.told_to_go.push(conn),
                _ => {}
            }
        }
    }

    fn answers(&self, conn: Conn) -> &[u64] {
        self.answered.get(&conn).map_or(&[], Vec::as_slice)
    }

    /// So many devices, each of which has sent as much as its window allows.
    fn flood(&mut self, count: usize) -> Vec<Conn> {
        let devices = (0..count).map(|number| format!("m{number}/phone"));
        let flood: Vec<Conn> = devices.map(|device| self.attach(&device)).collect();
        while self.sync() > 0 {}
        for (number, conn) in flood.iter().enumerate() {
            self.submit(*conn, 1..=WINDOW, &format!("m{number}/tablet"));
        }
        flood
    }
}

#[test]
fn who_sends_one_message_is_answered_with_the_next_sync_whoever_floods() {
    let mut scene = Scene::new();
    let quiet = scene.attach("alice/pc");
    let flood = scene.flood(20);
    let (all, mut written) = (20 * WINDOW as usize, 0);
    for seq in 1..=3 {
        scene.submit(quiet, [seq], "alice/phone");
        let group = scene.sync();
        assert!(group < 1_000, "{group} of {all} at once");
        assert_eq!(scene.answers(quiet).last(), Some(&seq));
        written += group;
    }
    assert!(written < all, "the flood was still there");
    while scene.sync() > 0 {}
    let expected: Vec<u64> = (1..=WINDOW).collect();
    for conn in flood {
        assert_eq!(scene.answers(conn), expected, "all, once, in order");
    }
}

#[test]
fn those_that_flood_share_what_there_is() {
    let mut scene = Scene::new();
    let flood = scene.flood(32);
    for _ in 0..8 {
        scene.sync();
    }
    // But for the first, which found the relay idle.
    let answered = flood[1..].iter().map(|conn| scene.answers(*conn).len());
    let (least, most) = (answered.clone().min().unwrap(), answered.max().unwrap());
    assert!(least > 0 && most <= least + 32, "{least} and {most}");
}

#[test]
fn a_flooding_sender_that_leaves_takes_nobody_along() {
    let mut scene = Scene::new();
    let flood = scene.flood(3);
    scene.lone.relay.ended(scene.lone.now, flood[1]);
    while scene.sync() > 0 {}
    for conn in [flood[0], flood[2]] {
        assert_eq!(scene.answers(conn).len() as u64, WINDOW);
    }
}

#[test]
fn a_session_that_opens_while_the_relay_drains_is_told_to_go() {
    let mut scene = Scene::new();
    let (greeted, silent) = (scene.attach("alice/pc"), scene.connect("alice/phone"));
    scene
        .lone
        .relay
        .drain(scene.lone.now, Duration::from_secs(5));
    scene.carry();
    assert_eq!(scene.told_to_go, [greeted]);
    let late = scene.connect("alice/tablet");
    scene.greet(silent);
    scene.greet(late);
    assert_eq!(scene.told_to_go, [greeted, silent, late]);
}
