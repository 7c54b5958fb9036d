//! Messages in both directions, in both lanes.

use std::time::Duration;

use bytes::Bytes;
use holdfast_protocol::{
    client::{Event, NotNow},
    close::CloseCode,
    id::Lane,
    limits::{BULK_WINDOW, WINDOW},
    message::{Ack, Allow, Allowed, Gap, Outcome, Receipt, Refusal},
    server,
};

use crate::{
    SEEDS,
    link::Dice,
    pair::{Pair, body, deliver, submit, wire},
};

const A_MOMENT: Duration = Duration::from_secs(1);

#[test]
fn each_lane_keeps_its_order_and_its_bodies() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        for seq in 1..=BULK_WINDOW {
            for lane in Lane::ALL {
                pair.device.submit(submit(seq), body(lane, seq)).unwrap();
            }
        }
        pair.run(A_MOMENT);
        let in_order: Vec<u64> = (1..=BULK_WINDOW).collect();
        assert_eq!(pair.submitted(Lane::Message), in_order, "seed {seed}");
        assert_eq!(pair.submitted(Lane::Bulk), in_order, "seed {seed}");
        for event in pair.at_relay.seen() {
            if let server::Event::Submit {
                lane,
                submit,
                body: came,
            } = event
            {
                assert_eq!(*came, body(*lane, submit.seq));
            }
        }
    }
}

#[test]
fn a_full_window_waits_for_receipts() {
    for lane in Lane::ALL {
        let (mut pair, window) = (Pair::attached(1), lane.window());
        for seq in 1..=window {
            pair.device.submit(submit(seq), body(lane, seq)).unwrap();
        }
        let next = submit(window + 1);
        let refused = pair.device.submit(next.clone(), body(lane, 1));
        assert_eq!(refused, Err(NotNow::WindowFull));
        let other = Lane::ALL[1 - lane as usize];
        assert_eq!(
            pair.device.submit(submit(1), body(other, 1)),
            Ok(()),
            "lanes are apart"
        );
        pair.run(A_MOMENT);
        pair.answer_from(0);
        pair.run(A_MOMENT);
        assert_eq!(pair.device.submit(next, body(lane, 1)), Ok(()));
        pair.run(A_MOMENT);
        assert_eq!(pair.submitted(lane).len() as u64, window + 1);
        assert_eq!(pair.at_relay.end, None);
    }
}

#[test]
fn what_the_relay_cannot_take_is_not_sent() {
    let mut pair = Pair::attached(0);
    let large = Bytes::from(vec![0; 1024 * 1024 + 1]);
    let limit = 1024 * 1024;
    let refused = pair.device.submit(submit(1), large.clone());
    assert_eq!(refused, Err(NotNow::TooLarge { limit }));
    assert_eq!(pair.device.submit(submit(1), large.slice(1..)), Ok(()));
    pair.run(A_MOMENT);
    assert_eq!(pair.submitted(Lane::Bulk), [1]);
}

#[test]
fn nothing_is_submitted_before_the_welcome_or_after_the_end() {
    let mut pair = Pair::new(0);
    let refused = |pair: &mut Pair| pair.device.submit(submit(1), Bytes::new());
    assert_eq!(refused(&mut pair), Err(NotNow::NotAttached));
    pair.device.start(pair.now);
    assert_eq!(refused(&mut pair), Err(NotNow::NotAttached));
    pair.run(A_MOMENT);
    pair.device.goodbye();
    assert_eq!(refused(&mut pair), Err(NotNow::NotAttached));
}

#[test]
fn receipts_come_to_the_device_first_and_second() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        pair.device
            .submit(submit(1), body(Lane::Message, 1))
            .unwrap();
        pair.device
            .submit(submit(2), body(Lane::Message, 2))
            .unwrap();
        pair.run(A_MOMENT);
        let lane = Lane::Message;
        let receipts = [
            (1, Outcome::Stored),
            (2, Outcome::Refused(Refusal::MailboxFull)),
            (1, Outcome::Expired),
        ]
        .map(|(seq, outcome)| Receipt { lane, seq, outcome });
        receipts
            .iter()
            .for_each(|receipt| pair.relay.receipt(receipt));
        pair.run(A_MOMENT);
        let heard = pair.at_device.seen().filter_map(|event| match event {
            Event::Receipt(receipt) => Some(*receipt),
            _ => None,
        });
        assert_eq!(heard.collect::<Vec<_>>(), receipts);
    }
}

#[test]
fn deliveries_are_acknowledged_and_gaps_told() {
    for seed in SEEDS {
        let mut pair = Pair::attached(seed);
        for position in 1..=10 {
            for lane in Lane::ALL {
                pair.relay
                    .deliver(lane, &deliver(position), body(lane, position));
            }
        }
        let gap = Gap {
            position: 11,
            missed: 3,
        };
        pair.relay.gap(&gap);
        pair.run(A_MOMENT);
        let in_order: Vec<u64> = (1..=10).collect();
        assert_eq!(pair.delivered(Lane::Message), in_order, "seed {seed}");
        assert_eq!(pair.delivered(Lane::Bulk), in_order, "seed {seed}");
        assert!(pair.at_device.seen().any(|event| *event == Event::Gap(gap)));

        let acks = [(Lane::Message, 11), (Lane::Bulk, 10)];
        let acks = acks.map(|(lane, through)| Ack { lane, through });
        acks.iter().for_each(|ack| pair.device.ack(*ack));
        pair.run(A_MOMENT);
        let heard = pair.at_relay.seen().filter_map(|event| match event {
            server::Event::Ack(ack) => Some(*ack),
            _ => None,
        });
        assert_eq!(heard.collect::<Vec<_>>(), acks);
    }
}

#[test]
fn the_list_of_allowed_senders_is_changed_and_confirmed() {
    let mut pair = Pair::attached(0);
    pair.device.allow(9, "bob".parse().unwrap(), true);
    pair.run(A_MOMENT);
    let asked = server::Event::Allow(Allow {
        tag: 9,
        sender: "bob".parse().unwrap(),
        allowed: true,
    });
    assert!(pair.at_relay.seen().any(|event| *event == asked));
    pair.relay.allowed(9);
    pair.run(A_MOMENT);
    let confirmed = Event::Allowed(Allowed { tag: 9 });
    assert!(pair.at_device.seen().any(|event| *event == confirmed));
}

#[test]
fn a_window_that_is_not_kept_ends_the_session() {
    let mut pair = Pair::attached(0);
    for seq in 1..=WINDOW {
        pair.device.submit(submit(seq), Bytes::new()).unwrap();
    }
    pair.run(A_MOMENT);
    let now = pair.now;
    pair.relay.handle_control(now, wire(&submit(WINDOW + 1)));
    pair.run(A_MOMENT);
    assert_eq!(pair.at_device.code(), Some(CloseCode::WindowExceeded));
}

/// Loses two pings, or their pongs, at most.
fn disturb(pair: &mut Pair, dice: &mut Dice) {
    if dice.below(2) == 0 {
        pair.cut();
        pair.run(Duration::from_secs(3));
        pair.heal();
    } else {
        pair.up.lose_next = dice.below(2) as u32;
        pair.down.lose_next = dice.below(2) as u32;
    }
}

/// An hour of a busy session, with loss, delay and breaks too short to be a loss: everything
/// arrives once and in order, nobody errs.
#[test]
fn a_busy_hour_is_without_fault() {
    for seed in SEEDS.step_by(10) {
        let mut pair = Pair::attached(seed);
        let mut dice = Dice::new(seed);
        let mut submitted = [0, 0];
        let mut delivered = [0, 0];
        for round in 0..360 {
            for _ in 0..dice.below(10) {
                let lane = Lane::ALL[dice.below(2) as usize];
                let seq = submitted[lane as usize] + 1;
                if pair.device.submit(submit(seq), body(lane, seq)).is_ok() {
                    submitted[lane as usize] = seq;
                }
                delivered[lane as usize] += 1;
                let position = delivered[lane as usize];
                pair.relay
                    .deliver(lane, &deliver(position), body(lane, position));
            }
            let seen = pair.at_relay.events.len();
            // Every 40 s, so that no more than two pings in a row are lost: the interval is 25 s.
            if round % 4 == 0 {
                disturb(&mut pair, &mut dice);
            }
            pair.run(Duration::from_secs(10));
            pair.answer_from(seen);
        }
        pair.run(A_MOMENT);
        assert_eq!(
            (pair.at_device.code(), pair.at_relay.code()),
            (None, None),
            "seed {seed}"
        );
        for lane in Lane::ALL {
            let all = |count: u64| (1..=count).collect::<Vec<_>>();
            assert_eq!(
                pair.submitted(lane),
                all(submitted[lane as usize]),
                "seed {seed}"
            );
            assert_eq!(
                pair.delivered(lane),
                all(delivered[lane as usize]),
                "seed {seed}"
            );
        }
    }
}
