//! What is remembered of senders and devices that are silent, for how long, and how much it takes.

use std::time::Duration;

use holdfast_protocol::{
    id::Lane,
    limits::{MAX_RETRY_AGE, SOURCE_MEMORY},
    message::{
        Outcome::{Delivered, Expired, Refused, Stored},
        Refusal,
    },
};

use super::fixture::{Home, Seen, mail, note, outcomes};
use crate::mail::outlet::Outlet;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_message_is_known_for_as_long_as_it_may_be_submitted_again() {
    let mut home = Home::new();
    home.send(note(1));
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1]);
    home.pass(MAX_RETRY_AGE + 29 * DAY);
    home.commit();
    home.crash(0);
    assert_eq!(home.send(note(1)), [Delivered]);
    let phone = home.attach("phone");
    assert_eq!(home.take(&phone), []);
}

#[test]
fn nothing_is_left_of_a_source_that_was_silent_for_longer() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    let _phone = home.attach("phone");
    home.send(mail("alice/pc", 1, "alice").retain("k"));
    home.send(mail("alice/pc", 2, "alice/phone"));
    home.rules.mailbox.messages = 10;
    home.send(mail("alice/pc", 3, "alice/phone").ttl(1));
    home.commit();
    let rows = home.rows();
    assert_eq!((rows.marks.len(), rows.refusals.len()), (1, 1));
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1, 3]);
    home.commit();
    let rows = home.rows();
    assert_eq!((rows.marks.len(), rows.refusals.len()), (2, 1));
    home.pass(SOURCE_MEMORY + 2 * DAY);
    home.commit();
    let rows = home.rows();
    assert_eq!((rows.marks.len(), rows.refusals.len()), (0, 0));
    assert_eq!(rows.retained.len(), 1, "only what was known of the sender");
    assert_eq!(home.send(note(2)), [], "it would be taken for new");
}

#[test]
fn a_device_that_is_there_now_and_then_is_not_forgotten() {
    let mut home = Home::new();
    for _ in 0..3 {
        home.pass(80 * DAY);
        let phone = home.attach("phone");
        home.pass(80 * DAY);
        home.detach(&phone);
        home.commit();
        home.crash(0);
    }
    home.pass(80 * DAY);
    assert_eq!(home.send(mail("alice/pc", 1, "alice")), []);
}

#[test]
fn a_device_that_stays_attached_is_not_forgotten_when_the_relay_crashes() {
    let mut home = Home::new();
    let _phone = home.attach("phone");
    (0..200).for_each(|_| home.pass(DAY));
    home.commit();
    home.crash(0);
    home.pass(DAY);
    assert_eq!(home.send(mail("alice/pc", 1, "alice")), []);
}

#[test]
fn a_device_that_stays_away_is_forgotten_and_hears_of_what_it_missed_if_it_comes_back() {
    let mut home = Home::with(|rules| {
        rules.mailbox.messages = 2;
        rules.max_ttl = 365 * DAY;
    });
    let outlet = Outlet::new();
    let [phone, tablet] = ["phone", "tablet"].map(|device| home.attach(device));
    home.detach(&phone);
    for seq in 1..=2 {
        home.submit(mail("alice/pc", seq, "alice").notify().into(), &outlet);
        home.commit();
        assert_eq!(home.drain(&tablet).len(), 1);
    }
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored, Stored]);
    let full = [Refused(Refusal::MailboxFull)];
    assert_eq!(home.send(mail("alice/pc", 3, "alice")), full);
    home.pass(90 * DAY);
    assert_eq!(home.send(mail("alice/pc", 4, "alice")), full);
    home.pass(DAY);
    home.commit();
    assert_eq!(outcomes(&outlet), [Expired, Expired]);
    assert_eq!(home.send(mail("alice/pc", 5, "alice")), []);
    home.commit();
    assert_eq!(home.drain(&tablet), [5]);
    home.crash(0);
    let phone = home.attach("phone");
    assert!(matches!(home.take(&phone)[..], [Seen::Gap(gap)] if gap.missed == 2));
}

#[test]
fn nothing_is_left_of_a_device_that_stays_away_for_twice_as_long() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.detach(&phone);
    home.send(note(1));
    home.commit();
    for expected in [1, 0] {
        home.pass(91 * DAY);
        home.commit();
        home.pass(DAY);
        home.commit();
        let rows = home.rows();
        assert_eq!((rows.devices.len(), rows.marks.len()), (expected, 0));
    }
    assert_eq!(home.rows(), crate::mail::account::Rows::default());
}

#[test]
fn a_name_that_was_written_to_and_never_attached_is_forgotten_when_its_mail_has_expired() {
    let mut home = Home::with(|rules| {
        rules.max_devices = 1;
        rules.max_ttl = 100 * DAY;
    });
    home.send(note(1));
    home.pass(99 * DAY);
    let full = [Refused(Refusal::TooManyDevices)];
    assert_eq!(home.send(mail("alice/pc", 2, "alice/tablet")), full);
    home.pass(DAY);
    home.pass(DAY);
    home.commit();
    assert_eq!(home.rows().devices, []);
    assert_eq!(home.send(mail("alice/pc", 3, "alice/tablet")), []);
}

#[test]
fn a_name_is_not_forgotten_while_what_came_for_it_may_come_again() {
    let mut home = Home::new();
    home.send(note(1).ttl(1));
    home.pass(80 * DAY);
    home.send(note(2).ttl(1));
    home.pass(20 * DAY);
    home.commit();
    home.crash(0);
    let again = home.send(note(2).ttl(1).again());
    assert_eq!(again, [Stored], "it expired, and is not taken for new");
    let phone = home.attach("phone");
    assert!(matches!(home.take(&phone)[..], [Seen::Gap(gap)] if gap.missed == 2));
}

#[test]
fn what_comes_again_is_refused_for_any_other_reason() {
    let mut home = Home::with(|rules| rules.max_body = 10);
    let stranger = mail("bob/pc", 1, "alice/phone").again();
    assert_eq!(home.send(stranger), [Refused(Refusal::NotAllowed)]);
    let large = note(1).body(vec![0; 11]).again();
    assert_eq!(home.send(large), [Refused(Refusal::TooLarge)]);
    let nobody = mail("alice/pc", 2, "alice").again();
    assert_eq!(home.send(nobody), [Refused(Refusal::NoDevice)]);
}

/// The phone has it, the relay has forgotten it, and the room was taken meanwhile.
#[test]
fn what_comes_again_after_a_crash_is_not_refused_for_want_of_room() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    let phone = home.attach("phone");
    home.send(note(1));
    assert_eq!(home.seqs(&phone), [1]);
    home.crash(0);
    home.send(mail("service/push", 1, "alice/phone"));
    home.commit();
    let full = [Refused(Refusal::MailboxFull)];
    assert_eq!(home.send(note(2)), full, "it is new");
    assert_eq!(home.send(note(1).again()), []);
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1, 1]);
}

#[test]
fn who_says_so_of_everything_gains_a_window() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    home.send(mail("service/push", 1, "alice/phone"));
    let taken = (1..400).filter(|seq| home.send(note(*seq).again()).is_empty());
    assert_eq!(taken.count(), 256);
    let taken = (1..400).filter(|seq| home.send(note(*seq).bulk().again()).is_empty());
    assert_eq!(taken.count(), 4);
}

/// A crash could forget that the device joined, and then nobody would be there to send it to.
#[test]
fn nothing_is_handed_to_a_device_before_it_is_known_for_good() {
    let mut home = Home::new();
    let phone = home.attach_with_inbox("phone", 1);
    home.send(mail("alice/pc", 1, "alice"));
    assert_eq!(home.take(&phone), []);
    home.commit();
    assert_eq!(home.seqs(&phone), [1]);
    home.send(mail("alice/pc", 2, "alice"));
    assert_eq!(home.tail.len(), 0, "forwarded");
    assert_eq!(home.seqs(&phone), [2]);
}

/// What is not on the disk must not be dropped from memory, though nobody is there and nobody waits.
#[test]
fn an_account_is_not_settled_before_it_is_durable_that_a_device_joined() {
    let mut home = Home::new();
    assert!(home.account.is_settled());
    let phone = home.attach_with_inbox("phone", 1);
    home.detach(&phone);
    assert!(!home.account.is_settled());
    home.commit();
    assert!(home.account.is_settled());
}

/// How far one sender's lane has come in one mailbox: its row, and its place in memory.
#[test]
fn a_source_takes_so_many_bytes() {
    use crate::{
        mail::{desk::Write, ledger::Marks, message::Source},
        store::row_bytes,
    };
    let message = mail("bob/pc", 1, "alice/phone").0;
    let mut source = Source::from(&message.id);
    source.epoch = u64::MAX / 3;
    let mut marks = Marks::default();
    marks.advance(source.clone(), 1_000_000, 1, 20_000);
    marks.ended(&source, 1_000_000, Delivered);
    let write = Write::PutMark {
        account: "alice".parse().unwrap(),
        device: Some("phone".parse().unwrap()),
        mark: Some(marks.get(&source)),
        source,
    };
    assert_eq!(row_bytes(write), 37, "on disk, key and value");
    assert_eq!(Marks::BYTES_OF_SOURCE, 152, "in memory, when nothing waits");
    assert_eq!(Lane::ALL.len(), 2, "and each sender has two lanes");
}
