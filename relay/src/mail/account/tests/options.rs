//! Times to live and gaps; collapse keys; receipts of the end.

use std::time::Duration;

use holdfast_protocol::{
    id::Lane,
    limits::DELIVERY_WINDOW,
    message::Outcome::{Delivered, Expired, Replaced, Stored},
};

use super::fixture::{Home, Seen, mail, note, outcomes};
use crate::mail::outlet::Outlet;

const SECOND: Duration = Duration::from_secs(1);

fn gaps(seen: &[Seen]) -> Vec<u64> {
    let missed = |seen: &Seen| match seen {
        Seen::Gap(gap) => Some(gap.missed),
        _ => None,
    };
    seen.iter().filter_map(missed).collect()
}

#[test]
fn what_expires_while_the_device_is_away_is_told_as_one_gap_behind_what_waited() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    home.submit(note(1).into(), &outlet);
    for seq in 2..=4 {
        home.submit(note(seq).ttl(1).notify().into(), &outlet);
    }
    home.submit(note(1).bulk().ttl(1).into(), &outlet);
    home.submit(note(5).into(), &outlet);
    home.commit();
    outlet.take();
    home.pass(SECOND);
    assert_eq!(outcomes(&outlet), [], "a crash could take it back");
    home.commit();
    assert_eq!(outcomes(&outlet), [Expired; 3]);
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert!(matches!(
        seen[..],
        [Seen::Message { .. }, Seen::Message { .. }, Seen::Gap(_)]
    ));
    assert_eq!(gaps(&seen), [4]);
    assert!(seen.is_sorted_by_key(|seen| seen.position()));
    home.ack(&phone, Lane::Message, u64::MAX);
    home.commit();
    home.assert_empty();
}

#[test]
fn nothing_is_handed_over_after_its_time() {
    let mut home = Home::new();
    home.send(note(1).ttl(1));
    home.commit();
    home.now.time = home.now.time + SECOND;
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert_eq!(gaps(&seen), [1]);
    assert_eq!(seen.len(), 1);
}

#[test]
fn what_was_handed_over_does_not_expire_under_way() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.send(note(1).ttl(1));
    home.pass(2 * SECOND);
    assert_eq!(home.drain(&phone), [1]);
    home.commit();
    home.assert_empty();
    assert_eq!(home.tally.expired, 0);
}

#[test]
fn a_message_without_a_time_to_live_gets_the_relays() {
    let mut home = Home::with(|rules| rules.max_ttl = 10 * SECOND);
    home.send(note(1));
    home.send(note(2).ttl(1000));
    home.commit();
    home.pass(9 * SECOND);
    assert_eq!(home.tally.expired, 0);
    home.pass(SECOND);
    assert_eq!(home.tally.expired, 2);
}

#[test]
fn what_expired_while_the_relay_was_down_is_missed_too() {
    let mut home = Home::new();
    home.send(note(1).ttl(1));
    home.commit();
    home.now.wall_ms += 1000;
    home.crash(0);
    let phone = home.attach("phone");
    assert_eq!(gaps(&home.take(&phone)), [1]);
}

#[test]
fn a_wall_clock_that_jumps_neither_expires_mail_nor_keeps_it() {
    let mut home = Home::new();
    home.send(note(1).ttl(10));
    home.commit();
    home.now.wall_ms *= 2;
    home.pass(9 * SECOND);
    assert_eq!(home.tally.expired, 0, "forward");
    home.now.wall_ms = 0;
    home.pass(SECOND);
    assert_eq!(home.tally.expired, 1, "back");
}

#[test]
fn a_wall_clock_that_is_wrong_at_boot_does_not_expire_everything() {
    let mut home = Home::new();
    home.send(note(1).ttl(2 * 3600));
    home.send(note(2).ttl(1800));
    home.commit();
    home.now.wall_ms += 400 * 24 * 3_600_000;
    home.crash(0);
    home.pass(SECOND);
    assert_eq!(home.tally.expired, 1, "an hour is believed");
    home.correct_wall_clock();
    home.pass(1200 * SECOND);
    let phone = home.attach("phone");
    assert_eq!(gaps(&home.take(&phone)), [1]);
}

#[test]
fn a_gap_is_told_until_it_is_acknowledged_and_not_after() {
    let mut home = Home::new();
    home.send(note(1).ttl(1));
    home.pass(SECOND);
    home.commit();
    for _ in 0..2 {
        home.crash(0);
        let phone = home.attach("phone");
        assert_eq!(gaps(&home.take(&phone)), [1]);
        home.commit();
    }
    let phone = home.attach("phone");
    assert_eq!(gaps(&home.take(&phone)), [1], "to the next session, too");
    home.ack(&phone, Lane::Bulk, u64::MAX);
    home.ack(&phone, Lane::Message, 1);
    let phone = home.attach("phone");
    assert_eq!(gaps(&home.take(&phone)), [1], "it lies further");
    home.ack(&phone, Lane::Message, u64::MAX);
    home.commit();
    home.crash(0);
    let phone = home.attach("phone");
    assert_eq!(home.take(&phone), []);
}

/// A device acknowledges by place: a gap that came behind later messages would be lost with them.
#[test]
fn a_gap_comes_in_the_order_of_places_also_when_it_is_told_again() {
    let mut home = Home::new();
    home.send(note(1).ttl(1));
    home.pass(SECOND);
    let phone = home.attach("phone");
    assert_eq!(gaps(&home.take(&phone)), [1]);
    home.detach(&phone);
    home.send(note(2));
    home.commit();
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert!(
        matches!(seen[..], [Seen::Gap(_), Seen::Message { .. }]),
        "{seen:?}"
    );
    assert!(seen.is_sorted_by_key(|seen| seen.position()));
}

#[test]
fn what_expires_after_a_gap_was_told_is_told_in_another() {
    let mut home = Home::new();
    for seq in 1..=DELIVERY_WINDOW as u64 {
        home.send(note(seq));
    }
    home.send(note(300).ttl(1));
    home.send(note(301).ttl(1));
    home.send(note(302).ttl(2));
    home.commit();
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert_eq!(seen.len(), DELIVERY_WINDOW);
    home.pass(SECOND);
    let seen = home.take(&phone);
    assert_eq!(
        gaps(&seen),
        [0_u64; 0],
        "302 was accepted before it was known"
    );
    home.pass(SECOND);
    let seen = home.take(&phone);
    assert_eq!(gaps(&seen), [3], "nothing waits before it any more");
    home.ack(&phone, Lane::Message, u64::MAX);
    home.detach(&phone);
    home.send(note(303).ttl(1));
    home.pass(SECOND);
    let phone = home.attach("phone");
    assert_eq!(gaps(&home.take(&phone)), [1]);
}

#[test]
fn the_newest_of_a_key_replaces_what_waits_in_both_lanes() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    home.submit(note(1).key("k").notify().into(), &outlet);
    home.submit(note(2).key("other").into(), &outlet);
    home.submit(note(3).into(), &outlet);
    home.submit(
        mail("service/push", 1, "alice/phone").key("k").into(),
        &outlet,
    );
    home.commit();
    outlet.take();
    let newer = mail("alice/tablet", 8, "alice/phone")
        .bulk()
        .key("k")
        .notify();
    home.submit(newer.into(), &outlet);
    assert_eq!(outcomes(&outlet), [], "what replaces it is not durable");
    home.commit();
    assert_eq!(outcomes(&outlet), [Replaced, Stored]);
    home.submit(
        mail("alice/tablet", 9, "alice/phone").key("k").into(),
        &outlet,
    );
    home.commit();
    assert_eq!(outcomes(&outlet), [Replaced, Stored]);
    let phone = home.attach("phone");
    assert_eq!(
        home.drain(&phone),
        [2, 3, 1, 9],
        "not those of another sender"
    );
    assert_eq!(home.tally.replaced, 2);
    home.commit();
    home.assert_empty();
}

#[test]
fn what_was_handed_over_is_not_replaced_unless_it_comes_back() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.send(note(1).key("k"));
    home.send(note(2).key("k"));
    assert_eq!(home.seqs(&phone), [1, 2]);
    home.detach(&phone);
    home.send(note(3).key("k"));
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [3]);
    assert_eq!(home.tally.replaced, 2);
    home.commit();
    home.assert_empty();
}

#[test]
fn who_asks_hears_the_end_after_it_was_stored() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    home.submit(note(1).notify().into(), &outlet);
    home.submit(note(2).into(), &outlet);
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored, Stored]);
    let phone = home.attach("phone");
    home.drain(&phone);
    assert_eq!(outcomes(&outlet), [Delivered]);
    home.commit();
    home.detach(&phone);
    assert!(home.account.is_settled());
}
