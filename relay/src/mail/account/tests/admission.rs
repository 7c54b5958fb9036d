//! Who may write, and how much may wait.

use holdfast_protocol::{
    id::Lane,
    message::{
        Outcome::{Refused, Stored},
        Priority, Refusal,
    },
};

use super::fixture::{Home, mail, note, outcomes};
use crate::mail::policy::{MESSAGE_OVERHEAD, Strangers};

#[test]
fn a_stranger_may_write_once_and_for_as_long_as_it_is_allowed() {
    let mut home = Home::new();
    let stranger = |seq| mail("bob/pc", seq, "alice/phone");
    let refused = [Refused(Refusal::NotAllowed)];
    assert_eq!(home.send(stranger(1)), refused);
    let asked = home.allow("bob", true);
    assert_eq!(outcomes(&asked), [], "not durable");
    home.commit();
    assert_eq!(outcomes(&asked), [Stored]);
    assert_eq!(home.send(stranger(2)), []);
    home.commit();
    home.crash(0);
    assert_eq!(home.send(stranger(3)), []);
    home.allow("bob", false);
    assert_eq!(home.send(stranger(4)), refused);
    home.commit();
    home.crash(0);
    assert_eq!(home.send(stranger(5)), refused);
    assert_eq!(home.send(stranger(1)), refused);
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [2, 3]);
}

#[test]
fn a_service_and_the_account_itself_may_write_and_strangers_if_the_relay_is_open() {
    let mut home = Home::new();
    assert_eq!(home.send(mail("service/bob", 1, "alice/phone")), []);
    assert_eq!(home.send(mail("alice/pc", 1, "alice/phone")), []);
    home.rules.strangers = Strangers::Open;
    assert_eq!(home.send(mail("bob/pc", 1, "alice/phone")), []);
}

#[test]
fn a_full_disk_takes_no_new_mail_but_hands_out_and_deletes_what_it_has() {
    let mut home = Home::new();
    home.send(note(1));
    home.commit();
    home.disk_full = true;
    let full = [Refused(Refusal::DiskFull)];
    assert_eq!(home.send(note(2)), full);
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1]);
    home.disk_full = false;
    assert_eq!(home.send(note(2)), full, "a refusal is final");
    assert_eq!(home.send(note(3)), []);
}

#[test]
fn a_mailbox_is_full_by_count_and_has_room_again_when_it_was_drained() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 3);
    for seq in 1..=3 {
        home.send(note(seq));
    }
    home.commit();
    let full = [Refused(Refusal::MailboxFull)];
    assert_eq!(home.send(note(4)), full);
    home.crash(0);
    assert_eq!(home.send(note(5)), full, "what was stored counts");
    let phone = home.attach("phone");
    let first = home.take(&phone)[0].position().unwrap();
    home.ack(&phone, Lane::Message, first);
    assert_eq!(home.send(note(6)), []);
    assert_eq!(home.send(note(7)), full);
}

#[test]
fn a_mailbox_is_full_by_bytes() {
    let mut home = Home::with(|rules| rules.mailbox.bytes = 1000);
    let size = |free: u64| vec![0; (free - MESSAGE_OVERHEAD) as usize];
    let note = |seq| note(seq).priority(Priority::High);
    assert_eq!(home.send(note(1).body(size(600))), []);
    assert_eq!(
        home.send(note(2).body(size(401))),
        [Refused(Refusal::MailboxFull)]
    );
    assert_eq!(home.send(note(3).body(size(400))), []);
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1, 3]);
    assert_eq!(home.send(note(4).body(size(1000))), []);
}

#[test]
fn what_matters_less_is_refused_first_and_all_that_is_taken_comes_in_order() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 20);
    let (mut seq, mut taken) = (0, Vec::new());
    for (priority, most) in [
        (Priority::Low, 15),
        (Priority::Normal, 19),
        (Priority::High, 20),
    ] {
        loop {
            seq += 1;
            if !home.send(note(seq).priority(priority)).is_empty() {
                break;
            }
            taken.push(seq);
        }
        assert_eq!(taken.len(), most, "{priority:?}");
    }
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), taken);
}

#[test]
fn a_sender_has_its_share_and_all_devices_of_its_account_have_it_together() {
    let mut home = Home::with(|rules| rules.pair.messages = 2);
    home.allow("bob", true);
    home.commit();
    assert_eq!(home.send(mail("bob/pc", 1, "alice/phone")), []);
    assert_eq!(home.send(mail("bob/tv", 1, "alice/phone")), []);
    home.commit();
    home.crash(0);
    let refused = [Refused(Refusal::PairFull)];
    assert_eq!(home.send(mail("bob/pc", 2, "alice/phone")), refused);
    assert_eq!(home.send(mail("service/bob", 1, "alice/phone")), []);
    assert_eq!(home.send(mail("bob/pc", 3, "alice/tablet")), []);
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1, 1, 1]);
    assert_eq!(home.send(mail("bob/pc", 4, "alice/phone")), []);
}

#[test]
fn what_a_message_replaces_makes_room_for_it() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 2);
    let keyed = |seq| note(seq).key("position");
    home.send(keyed(1));
    home.send(note(2));
    assert_eq!(home.send(note(3)), [Refused(Refusal::MailboxFull)]);
    assert_eq!(home.send(keyed(4)), []);
    home.rules.pair.messages = 2;
    assert_eq!(home.send(keyed(5)), []);
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.seqs(&phone), [2, 5]);
    let full = home.send(keyed(6));
    assert_eq!(full, [Refused(Refusal::MailboxFull)], "5 was handed over");
}

#[test]
fn a_message_to_an_account_is_refused_as_a_whole() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    let [phone, tablet] = ["phone", "tablet"].map(|device| home.attach(device));
    home.detach(&tablet);
    home.send(mail("alice/pc", 1, "alice/tablet"));
    assert_eq!(
        home.send(mail("alice/pc", 2, "alice")),
        [Refused(Refusal::MailboxFull)]
    );
    assert_eq!(home.take(&phone), []);
}

#[test]
fn an_account_without_another_device_takes_nothing() {
    let mut home = Home::new();
    let nobody = [Refused(Refusal::NoDevice)];
    assert_eq!(home.send(mail("alice/pc", 1, "alice")), nobody);
    let _pc = home.attach("pc");
    assert_eq!(home.send(mail("alice/pc", 2, "alice")), nobody);
    home.send(note(3));
    assert_eq!(
        home.send(mail("alice/pc", 4, "alice")),
        nobody,
        "the phone has mail but never attached"
    );
    assert_eq!(home.send(mail("service/push", 1, "alice")), []);
}

#[test]
fn an_account_has_so_many_devices() {
    let mut home = Home::with(|rules| rules.max_devices = 2);
    let to = |seq, device: &str| mail("service/push", seq, &format!("alice/{device}"));
    home.send(to(1, "a"));
    home.send(to(2, "b"));
    assert_eq!(home.send(to(3, "c")), [Refused(Refusal::TooManyDevices)]);
    assert_eq!(home.send(to(4, "b")), []);
}

#[test]
fn a_body_is_at_most_so_large() {
    let mut home = Home::with(|rules| rules.max_body = 10);
    assert_eq!(
        home.send(note(1).body(vec![0; 11])),
        [Refused(Refusal::TooLarge)]
    );
    assert_eq!(home.send(note(2).body(vec![0; 10])), []);
}
