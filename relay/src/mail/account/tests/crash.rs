//! What a crash leaves behind has no hole, and no mark ahead of it.

use holdfast_protocol::{
    id::Lane,
    message::{
        Outcome::{Delivered, Refused, Stored},
        Refusal,
    },
};

use super::fixture::{Home, Seen, mail, note, outcomes};
use crate::mail::outlet::Outlet;

/// The PC sends three; the phone is there and then loses its memory. What is retained for it is
/// written, and with it the mark of the PC, who must not be taken for having been heard to the end.
#[test]
fn giving_a_device_what_is_retained_writes_what_it_holds_too() {
    let mut home = Home::new();
    home.send(mail("alice/pc", 1, "alice").retain("k"));
    let phone = home.attach("phone");
    home.drain(&phone);
    home.commit();
    for seq in 2..=4 {
        home.send(note(seq));
    }
    let _phone = home.attach_with_inbox("phone", 2);
    home.commit();
    home.crash(0);
    for seq in 2..=4 {
        home.send(note(seq));
    }
    let phone = home.attach_with_inbox("phone", 2);
    assert_eq!(home.drain(&phone), [1, 2, 3, 4]);
}

/// A mailbox's mark is in its mail, and written down when the last of that is gone.
#[test]
fn how_far_a_source_has_come_is_known_whether_its_mail_waits_or_not() {
    let mut home = Home::new();
    for seq in 1..=3 {
        home.send(note(seq));
    }
    home.commit();
    home.crash(0);
    assert_eq!(home.rows().marks, [], "the mail says it");
    let phone = home.attach("phone");
    let positions: Vec<u64> = home
        .take(&phone)
        .iter()
        .filter_map(Seen::position)
        .collect();
    home.ack(&phone, Lane::Message, positions[1]);
    home.commit();
    assert_eq!(home.rows().marks, [], "the third says it");
    home.ack(&phone, Lane::Message, positions[2]);
    home.commit();
    home.crash(0);
    assert_eq!(home.rows().marks[0].2.seq, 3);
    for seq in 1..=3 {
        assert_eq!(home.send(note(seq)), [Delivered]);
    }
    let phone = home.attach("phone");
    assert_eq!(home.take(&phone), []);
}

/// What is written down when mail leaves the disk covers nothing that is in memory only.
#[test]
fn a_mark_does_not_run_ahead_of_the_mail() {
    let mut home = Home::new();
    home.send(note(1));
    home.commit();
    let phone = home.attach("phone");
    home.send(note(2));
    let positions: Vec<u64> = home
        .take(&phone)
        .iter()
        .filter_map(Seen::position)
        .collect();
    home.ack(&phone, Lane::Message, positions[0]);
    home.commit();
    home.crash(0);
    assert_eq!(home.send(note(1)), [Delivered]);
    assert_eq!(home.send(note(2)), [], "it was in memory only, and is new");
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [2]);
}

/// A refusal that is forgotten lets its message in again, after a later one was shown.
#[test]
fn nothing_of_a_source_is_handed_over_before_its_refusals_are_durable() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    let [phone, tablet] = ["phone", "tablet"].map(|device| home.attach(device));
    home.detach(&phone);
    home.commit();
    home.send(note(1));
    let full = [Refused(Refusal::MailboxFull)];
    assert_eq!(home.send(note(2)), full);
    home.rules.mailbox.messages = 10;
    home.send(note(3));
    home.send(mail("alice/pc", 4, "alice/tablet"));
    assert_eq!(home.take(&tablet), [], "the refusal of 2 is not durable");
    home.commit();
    assert_eq!(home.drain(&tablet), [4]);
    home.send(mail("alice/pc", 5, "alice/tablet"));
    assert_eq!(
        home.tail.last().map(|(_, done)| done.len()),
        Some(0),
        "forwarded again"
    );
    home.commit();
    home.crash(0);
    assert_eq!(home.send(note(2)), full);
}

#[test]
fn what_replaced_a_stored_message_is_stored_with_it() {
    let mut home = Home::new();
    let outlet = Outlet::new();
    for seq in 1..=5 {
        home.submit(note(seq).bulk().key(&format!("k{seq}")).into(), &outlet);
    }
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored; 5]);
    // The window takes four; the fifth waits, and another device's message replaces it.
    let _phone = home.attach("phone");
    home.send(mail("alice/tablet", 1, "alice/phone").key("k5"));
    home.crash(usize::MAX);
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(matches!(&seen[0], Seen::Message { body, .. } if body == "alice/tablet 1"));
}

/// Marks without their messages, or messages without their marks, would lose or double mail.
#[test]
fn every_prefix_of_the_writes_can_be_started_from() {
    let script = |home: &mut Home| {
        for seq in 1..=3 {
            home.send(note(seq));
        }
        let phone = home.attach("phone");
        home.send(note(4));
        home.send(note(5).bulk());
        home.detach(&phone);
        home.send(note(6));
    };
    let mut whole = Home::new();
    script(&mut whole);
    for kept in 0..=whole.tail.len() {
        let mut home = Home::new();
        script(&mut home);
        home.crash(kept);
        let phone = home.attach("phone");
        for seq in [1, 2, 3, 4, 6] {
            home.send(note(seq));
        }
        home.send(note(5).bulk());
        let mut seqs = home.drain(&phone);
        seqs.sort_unstable();
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6], "with {kept} writes kept");
        assert_eq!(home.send(note(6)), [Delivered]);
        home.commit();
        home.assert_empty();
    }
}
