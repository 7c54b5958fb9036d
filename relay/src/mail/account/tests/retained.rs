//! What an account keeps for devices that join it later.

use std::time::Duration;

use holdfast_protocol::{
    id::Lane,
    message::{
        Outcome::{Delivered, Refused, Stored},
        Refusal,
    },
};

use super::fixture::{Device, Home, Mail, Seen, mail, outcomes};
use crate::mail::outlet::Outlet;

fn bookmark(seq: u64, key: &str, body: &'static str) -> Mail {
    mail("alice/pc", seq, "alice").retain(key).body(body)
}

fn bodies(home: &Home, device: &Device) -> Vec<String> {
    let body = |seen| match seen {
        Seen::Message { body, .. } => String::from_utf8(body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    home.take(device).into_iter().map(body).collect()
}

#[test]
fn a_device_that_joins_gets_the_newest_of_each_key_in_the_order_of_acceptance() {
    let mut home = Home::new();
    home.send(bookmark(1, "z", "z"));
    home.send(bookmark(2, "a", "old"));
    home.send(bookmark(3, "m", "m"));
    home.send(bookmark(4, "a", "new"));
    let phone = home.attach("phone");
    assert_eq!(
        bodies(&home, &phone),
        ["z", "m", "new"],
        "before it is durable"
    );
    home.commit();
    home.crash(0);
    let tablet = home.attach("tablet");
    assert_eq!(bodies(&home, &tablet), ["z", "m", "new"], "from the disk");
    home.drain(&tablet);
}

#[test]
fn a_device_that_was_there_gets_it_once() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.send(bookmark(1, "k", "one"));
    assert_eq!(bodies(&home, &phone), ["one"]);
    home.detach(&phone);
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(bodies(&home, &phone), ["one"], "it did not acknowledge");
    home.ack(&phone, Lane::Message, u64::MAX);
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(bodies(&home, &phone), [""; 0]);
}

#[test]
fn a_device_that_lost_its_memory_gets_it_anew() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.send(bookmark(1, "k", "one"));
    assert_eq!(home.drain(&phone), [1]);
    let phone = home.attach_with_inbox("phone", 1);
    assert_eq!(bodies(&home, &phone), [""; 0]);
    let phone = home.attach_with_inbox("phone", 2);
    assert_eq!(bodies(&home, &phone), ["one"]);
    home.commit();
    home.crash(0);
    let phone = home.attach_with_inbox("phone", 2);
    assert_eq!(bodies(&home, &phone), ["one"], "until it has it");
    home.ack(&phone, Lane::Message, u64::MAX);
    home.commit();
    home.assert_empty();
}

#[test]
fn an_empty_body_removes_the_key_even_when_there_is_no_room() {
    let mut home = Home::with(|rules| rules.max_retained = 1);
    home.send(bookmark(1, "k", "one"));
    home.send(bookmark(2, "other", ""));
    home.send(bookmark(3, "k", ""));
    home.commit();
    assert_eq!(home.rows().retained, []);
    assert_eq!(home.send(bookmark(4, "other", "now")), []);
    home.crash(usize::MAX);
    let phone = home.attach("phone");
    assert_eq!(bodies(&home, &phone), ["now"]);
}

#[test]
fn there_is_room_for_so_many_keys_and_bytes() {
    let mut home = Home::with(|rules| (rules.max_retained, rules.max_retained_bytes) = (2, 10));
    let full = [Refused(Refusal::RetainedFull)];
    home.send(bookmark(1, "a", "12345"));
    assert_eq!(home.send(bookmark(2, "b", "123456")), full);
    home.send(bookmark(3, "b", "1234"));
    assert_eq!(home.send(bookmark(4, "c", "")), []);
    assert_eq!(home.send(bookmark(5, "c", "1")), full, "a third key");
    for seq in 6..=7 {
        let newer = home.send(bookmark(seq, "a", "543210"));
        assert_eq!(newer, [], "its older one makes room");
    }
    home.commit();
    home.crash(0);
    assert_eq!(
        home.send(bookmark(8, "c", "1")),
        full,
        "what was stored counts"
    );
    assert_eq!(home.send(bookmark(9, "a", "1234567")), full);
    home.send(bookmark(10, "b", ""));
    assert_eq!(home.send(bookmark(11, "c", "12345")), full);
    assert_eq!(home.send(bookmark(12, "c", "1234")), []);
}

#[test]
fn only_the_account_itself_retains_under_a_key_for_the_account() {
    let mut home = Home::new();
    home.allow("bob", true);
    home.commit();
    let bad = [Refused(Refusal::BadRetain)];
    assert_eq!(
        home.send(mail("alice/pc", 1, "alice/phone").retain("k")),
        bad
    );
    assert_eq!(home.send(mail("bob/pc", 1, "alice").retain("k")), bad);
    let keyless = {
        let mut message: crate::mail::message::Message = bookmark(2, "k", "x").into();
        message.options.key = None;
        message
    };
    let outlet = Outlet::new();
    home.submit(keyless, &outlet);
    assert_eq!(outcomes(&outlet), bad);
    assert_eq!(home.send(mail("service/push", 1, "alice").retain("k")), []);
}

#[test]
fn a_retained_message_is_stored_once_the_account_has_it_and_comes_to_an_end() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    home.submit(bookmark(1, "k", "one").notify().into(), &outlet);
    assert_eq!(outcomes(&outlet), []);
    home.commit();
    assert_eq!(
        outcomes(&outlet),
        [Stored, Delivered],
        "no device to wait for"
    );
    let phone = home.attach("phone");
    home.drain(&phone);
    home.commit();
    home.submit(bookmark(2, "k", "two").notify().into(), &outlet);
    home.commit();
    assert_eq!(outcomes(&outlet), [], "the phone's part is in memory");
    home.drain(&phone);
    assert_eq!(outcomes(&outlet), [Delivered]);
    home.detach(&phone);
    assert!(home.account.is_settled());
}

#[test]
fn what_is_retained_outlives_the_time_that_mail_may_wait_unless_its_sender_says_otherwise() {
    let mut home = Home::with(|rules| rules.max_ttl = Duration::from_secs(10));
    home.send(bookmark(1, "for good", "kept"));
    home.send(bookmark(2, "for now", "gone").ttl(20));
    home.commit();
    home.pass(Duration::from_secs(19));
    home.commit();
    assert_eq!(home.rows().retained.len(), 2);
    home.pass(Duration::from_secs(1));
    home.commit();
    assert_eq!(home.rows().retained.len(), 1, "it leaves the disk, too");
    let phone = home.attach("phone");
    assert_eq!(bodies(&home, &phone), ["kept"]);
}
