use super::*;
use crate::golden::golden;

const OUTBOX: u64 = 1_234_567_890_123;
/// 2026-01-01 00:00 UTC.
const ACCEPTED_MS: u64 = 1_767_225_600_000;

fn retained() -> Options {
    Options {
        ttl_s: Some(3600),
        key: Some("bookmarks".parse().unwrap()),
        retain: true,
        notify: false,
        priority: Priority::Low,
    }
}

fn sender(device: &str) -> Sender {
    Sender::Device(device.parse().unwrap())
}

#[test]
fn hello() {
    let hello = Hello {
        agent: "holdfast-py/0.1".parse().unwrap(),
        outbox: OUTBOX,
        inbox: 42,
        next_within_ms: 25_000,
        background: false,
    };
    golden(
        &hello,
        "",
        "011b0f686f6c64666173742d70792f302e31cb89ec8ff7232aa8c30100",
    );
}

#[test]
fn welcome() {
    let welcome = Welcome {
        relay: "r1".parse().unwrap(),
        boot: 7,
        window: 256,
        bulk_window: 8,
        max_body: 1024 * 1024,
        time_ms: ACCEPTED_MS,
        redial_ms: 10_000,
    };
    golden(&welcome, "", "02120272310780020880804080d0eab6b733904e");
}

#[test]
fn submit() {
    let mut submit = Submit {
        seq: 1,
        to: "alice/phone".parse().unwrap(),
        options: Options::default(),
        again: false,
    };
    golden(
        &submit,
        "hi",
        "0316010005616c6963650570686f6e650000000001006869",
    );
    submit = Submit {
        seq: 2,
        to: "alice".parse().unwrap(),
        options: retained(),
        again: true,
    };
    golden(
        &submit,
        "{}",
        "031c020105616c69636501901c0109626f6f6b6d61726b73010000017b7d",
    );
    (submit.seq, submit.again) = (300, false);
    submit.options = Options {
        notify: true,
        priority: Priority::High,
        ..Options::default()
    };
    golden(&submit, "", "030fac020105616c696365000000010200");
}

#[test]
fn receipt() {
    use Lane::{Bulk, Message};
    use Outcome::{Delivered, Expired, Refused, Replaced, Stored};
    for (lane, seq, outcome, hex) in [
        (Message, 1, Stored, "0403000100"),
        (Message, 1, Delivered, "0403000101"),
        (Message, 300, Expired, "040400ac0202"),
        (Bulk, 2, Replaced, "0403010203"),
        (Message, 2, Refused(Refusal::MailboxFull), "040400020402"),
        (Message, 2, Refused(Refusal::Unknown(999)), "0405000204e707"),
    ] {
        golden(&Receipt { lane, seq, outcome }, "", hex);
    }
}

#[test]
fn deliver() {
    let mut deliver = Deliver {
        position: 300,
        from: sender("bob/pc"),
        epoch: OUTBOX,
        seq: 1,
        accepted_ms: ACCEPTED_MS,
        options: Options::default(),
    };
    golden(
        &deliver,
        "hi",
        "051eac020003626f62027063cb89ec8ff7230180d0eab6b73300000000016869",
    );
    deliver = Deliver {
        position: 1,
        from: Sender::Service("push".parse().unwrap()),
        epoch: 9,
        seq: 300,
        accepted_ms: ACCEPTED_MS,
        options: retained(),
    };
    golden(
        &deliver,
        "{}",
        "05230101047075736809ac0280d0eab6b73301901c0109626f6f6b6d61726b730100007b7d",
    );
}

#[test]
fn ack() {
    let (lane, through) = (Lane::Message, 300);
    golden(&Ack { lane, through }, "", "060300ac02");
    let (lane, through) = (Lane::Bulk, 1);
    golden(&Ack { lane, through }, "", "06020101");
}

#[test]
fn gap() {
    let (position, missed) = (301, 3);
    golden(&Gap { position, missed }, "", "0703ad0203");
}

#[test]
fn go_away() {
    let r2 = RelayAddress {
        name: "r2".parse().unwrap(),
        addresses: vec![
            "192.0.2.2:4433".parse().unwrap(),
            "[2001:db8::2]:4433".parse().unwrap(),
        ],
    };
    for (spread_ms, successors, hex) in [
        (
            8_000,
            vec![r2],
            "0824b0ea01c03e010272320200c0000202d1220120010db8000000000000000000000002d122",
        ),
        (0, Vec::new(), "0805b0ea010000"),
    ] {
        let within_ms = 30_000;
        golden(
            &GoAway {
                within_ms,
                spread_ms,
                successors,
            },
            "",
            hex,
        );
    }
}

#[test]
fn allow_and_allowed() {
    for (tag, allowed, hex) in [
        (1, true, "09060103626f6201"),
        (2, false, "09060203626f6200"),
    ] {
        let sender = "bob".parse().unwrap();
        golden(
            &Allow {
                tag,
                sender,
                allowed,
            },
            "",
            hex,
        );
    }
    golden(&Allowed { tag: 1 }, "", "0a0101");
}

#[test]
fn ping_and_pong() {
    let ping = Ping {
        seq: 0,
        next_within_ms: 25_000,
        echo_after_ms: 0,
        background: false,
    };
    golden(&ping, "", "100600a8c3010000");
    let asking = Ping {
        seq: 1,
        next_within_ms: 302_000,
        echo_after_ms: 300_000,
        background: true,
    };
    golden(&asking, "", "100801b0b712e0a71201");
    for (observed, hex) in [
        ("203.0.113.7:50000", "110a0000cb007107d0860300"),
        (
            "[2001:db8::1]:4433",
            "1115000120010db8000000000000000000000001d12200",
        ),
    ] {
        let observed = observed.parse().unwrap();
        let pong = Pong::at_once(&ping, observed);
        golden(&pong, "", hex);
    }
    let observed = "203.0.113.7:50000".parse().unwrap();
    let late = Pong {
        late: true,
        ..Pong::at_once(&asking, observed)
    };
    golden(&late, "", "110a0100cb007107d0860301");
}
