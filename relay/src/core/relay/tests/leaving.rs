//! What devices are told of coming back, and of leaving a relay that stops.

use holdfast_protocol::{
    frame::FrameType,
    message::{GoAway, Welcome},
};

use super::{lone::Lone, *};

/// A relay that lets in one device a second, and knows of two others.
struct Scene {
    lone: Lone,
    redial_ms: Vec<u32>,
    told_to_go: BTreeMap<Conn, GoAway>,
}

impl Scene {
    fn new() -> Self {
        let settings = Settings {
            handshake_rate: 1,
            ..Settings::new(name("r1"))
        };
        let mut lone = Lone::boot(settings, Arc::new(MemoryRows::default()));
        let leased = Leased {
            valid_ms: 15_000,
            others: vec![address("r2"), address("r3")],
        };
        lone.relay.leased(lone.now, Some(leased));
        Self {
            lone,
            redial_ms: Vec::new(),
            told_to_go: BTreeMap::new(),
        }
    }

    fn attach(&mut self, number: usize) -> Conn {
        let conn = self.lone.connect(&format!("a{number}/phone"));
        self.lone.greet(conn);
        self.carry();
        conn
    }

    fn attach_many(&mut self, count: usize) -> Vec<Conn> {
        (0..count).map(|number| self.attach(number)).collect()
    }

    fn drain(&mut self, seconds: u64) {
        self.lone
            .relay
            .drain(self.lone.now, Duration::from_secs(seconds));
        self.carry();
    }

    fn carry(&mut self) {
        for (conn, frame) in self.lone.hear() {
            match frame.kind {
                FrameType::Welcome => {
                    let welcome: Welcome = frame.header().unwrap();
                    self.redial_ms.push(welcome.redial_ms);
                }
                FrameType::GoAway => {
                    self.told_to_go.insert(conn, frame.header().unwrap());
                }
                _ => {}
            }
        }
    }

    /// How many are sent to each of the others first.
    fn sent_to(&self, relay: &str) -> usize {
        let all = self.told_to_go.values();
        let first = all.filter(|go_away| go_away.successors[0].name == name(relay));
        first.count()
    }
}

#[test]
fn a_device_is_told_how_long_all_need_to_come_back() {
    let mut scene = Scene::new();
    let conns = scene.attach_many(3);
    assert_eq!(scene.redial_ms, [1000, 2000, 3000]);
    scene.lone.relay.ended(scene.lone.now, conns[0]);
    scene.attach(9);
    assert_eq!(scene.redial_ms.last(), Some(&3000), "who is gone, is gone");
}

#[test]
fn devices_leave_at_leisure_and_go_to_all_of_the_others() {
    let mut scene = Scene::new();
    scene.attach_many(6);
    scene.drain(20);
    let told = scene.told_to_go.values();
    let spans: Vec<_> = told.map(|it| (it.within_ms, it.spread_ms)).collect();
    assert_eq!(spans, [(20_000, 9_000); 6]);
    assert_eq!([scene.sent_to("r2"), scene.sent_to("r3")], [3, 3]);
}

#[test]
fn they_leave_in_time_even_if_the_others_need_longer() {
    let mut scene = Scene::new();
    scene.attach_many(100);
    scene.drain(20);
    assert!(scene.told_to_go.values().all(|it| it.spread_ms == 15_000));
}

#[test]
fn who_comes_late_is_told_what_time_is_left() {
    let mut scene = Scene::new();
    scene.attach_many(100);
    scene.drain(20);
    scene.lone.now.time = Time::at(Duration::from_secs(12));
    let late = scene.attach(100);
    let told = &scene.told_to_go[&late];
    assert_eq!((told.within_ms, told.spread_ms), (8_000, 8_000));
}
