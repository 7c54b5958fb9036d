//! What sessions cost their devices, as the relay tells it, held against a device's own account.

use holdfast_protocol::{
    frame,
    message::{Hello, Ping},
    radio::{Radio, RadioAccount, RadioUse, RadioUses},
};

use super::*;

const SILENCE: Duration = Duration::from_secs(540);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A relay, and what a phone has counted itself.
struct Day {
    relay: Relay,
    now: Moment,
    phone: Conn,
    account: RadioAccount,
}

fn hello() -> Bytes {
    frame::encode(&Hello {
        agent: "test/1".parse().unwrap(),
        outbox: 1,
        inbox: 1,
        next_within_ms: 60_000,
        background: false,
    })
}

fn ping(background: bool) -> Bytes {
    frame::encode(&Ping {
        seq: 1,
        next_within_ms: 600_000,
        echo_after_ms: 0,
        background,
    })
}

impl Day {
    fn begin() -> Self {
        let disk = Arc::new(MemoryRows::default());
        let mut relay = Relay::boot(Settings::new(name("r1")), disk).unwrap();
        let now = Moment {
            time: Time::at(Duration::from_secs(100)),
            wall_ms: 0,
        };
        let phone = accept(&mut relay, now, "device/alice/phone");
        let mut day = Self {
            relay,
            now,
            phone,
            account: RadioAccount::new(now.time),
        };
        day.account.send(hello().len(), now.time);
        day.control(phone, hello());
        day
    }

    fn control(&mut self, conn: Conn, bytes: Bytes) {
        self.relay.control(self.now, conn, bytes);
        self.settle();
    }

    fn ping(&mut self, background: bool) {
        let (ping, from) = (ping(background), SocketAddr::from(([192, 0, 2, 1], 9)));
        self.account.set_background(background, self.now.time);
        self.account.send(ping.len(), self.now.time);
        self.relay.datagram(self.now, self.phone, ping, from);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.relay.poll(self.now) {
            match output {
                Output::Control { conn, bytes } | Output::Datagram { conn, bytes }
                    if conn == self.phone =>
                {
                    self.account.receive(bytes.len(), self.now.time);
                }
                Output::Locate(account) => {
                    let home = Allocation::Relays {
                        home: Some(name("r1")),
                        relays: vec![address("r1")],
                    };
                    self.relay.located(self.now, &account, Some(home));
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now.time = self.now.time + span;
    }

    fn told(&self) -> RadioUses {
        self.relay.radio_use(self.now.time)
    }
}

fn accept(relay: &mut Relay, now: Moment, who: &str) -> Conn {
    let (_, who) = Identity::parse(&format!("spiffe://test/{who}")).unwrap();
    relay.accept(now, &who).unwrap()
}

#[test]
fn the_relay_tells_of_a_day_what_the_device_has_counted() {
    let mut day = Day::begin();
    day.pass(SILENCE);
    let pings = DAY.as_secs() / SILENCE.as_secs();
    for _ in 0..pings {
        day.ping(true);
        day.pass(SILENCE);
    }
    day.ping(false);
    let told = day.told();
    assert_eq!(told, day.account.used(day.now.time));
    assert_eq!((told.background.wakes, told.background.time), (pings, DAY));
    assert_eq!((told.foreground.wakes, told.foreground.time), (2, SILENCE));
}

#[test]
fn a_message_wakes_a_radio_that_sleeps_and_no_other() {
    let mut day = Day::begin();
    let pc = accept(&mut day.relay, day.now, "service/push");
    day.control(pc, hello());
    day.ping(true);
    for (seq, silence) in [(1, Radio::TAIL / 2), (2, Radio::TAIL)] {
        day.pass(silence);
        let submit = Submit {
            seq,
            to: "alice/phone".parse().unwrap(),
            options: Options::default(),
            again: false,
        };
        day.control(
            pc,
            frame::encode_with_body(&submit, "wake up".into()).concat(),
        );
    }
    assert_eq!(day.told(), day.account.used(day.now.time));
    assert_eq!(day.told().background.wakes, 1, "the second message's");
    assert!(day.told().background.bytes_received > 2 * 7);
}

#[test]
fn who_has_left_spends_no_more_time_and_a_service_none_at_all() {
    let mut day = Day::begin();
    let service = accept(&mut day.relay, day.now, "service/push");
    day.control(service, hello());
    let told = day.told();
    day.pass(SILENCE);
    day.relay.ended(day.now, day.phone);
    day.pass(SILENCE);
    let foreground = RadioUse {
        time: SILENCE,
        ..told.foreground
    };
    assert_eq!(day.told().foreground, foreground);
}
