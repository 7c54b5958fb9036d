//! A message that comes again is answered as what became of it, and goes nowhere twice.

use holdfast_protocol::{
    id::Lane,
    message::{
        Outcome::{self, Delivered, Expired, Refused, Replaced, Stored},
        Refusal,
    },
};
use std::time::Duration;

use super::fixture::{Home, Mail, mail, note, outcomes};
use crate::mail::outlet::Outlet;

fn submit(home: &mut Home, mail: &Mail) -> Outlet {
    let outlet = Outlet::new();
    home.submit(mail.clone().into(), &outlet);
    outlet
}

#[test]
fn one_that_is_held_is_answered_when_the_first_is() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    let [first, second] = [(); 2].map(|()| submit(&mut home, &note(1)));
    assert_eq!(home.drain(&phone), [1]);
    assert_eq!(outcomes(&first), [Delivered]);
    assert_eq!(outcomes(&second), [Delivered]);
    assert_eq!(home.tally.duplicates, 1);
}

#[test]
fn one_that_is_on_its_way_to_the_disk_is_answered_when_it_is_there() {
    let mut home = Home::new();
    let [first, second] = [(); 2].map(|()| submit(&mut home, &note(1)));
    assert_eq!(outcomes(&second), []);
    home.commit();
    assert_eq!([outcomes(&first), outcomes(&second)], [[Stored], [Stored]]);
}

#[test]
fn one_that_is_stored_is_answered_at_once() {
    let mut home = Home::new();
    submit(&mut home, &note(1));
    home.commit();
    assert_eq!(home.send(note(1)), [Stored]);
    home.crash(0);
    assert_eq!(home.send(note(1)), [Stored], "in another run, too");
    assert_eq!(home.rows().messages.len(), 1);
}

#[test]
fn one_that_was_delivered_is_answered_at_once() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.commit();
    submit(&mut home, &note(1));
    home.drain(&phone);
    assert_eq!(home.send(note(1)), [Delivered]);
    home.detach(&phone);
    submit(&mut home, &note(2));
    home.commit();
    let phone = home.attach("phone");
    home.drain(&phone);
    home.commit();
    home.crash(0);
    assert_eq!(home.send(note(2)), [Delivered], "in another run, too");
}

/// Its sender set no time to live, so nothing but the relay knows that it can have expired.
#[test]
fn one_that_waited_for_too_long_was_not_delivered_in_another_run_either() {
    let mut home = Home::with(|rules| rules.max_ttl = Duration::from_secs(10));
    submit(&mut home, &note(1).notify());
    submit(&mut home, &note(2).notify());
    home.commit();
    home.pass(Duration::from_secs(10));
    let phone = home.attach("phone");
    home.submit(note(3).notify().into(), &Outlet::new());
    home.detach(&phone);
    home.commit();
    home.crash(0);
    let phone = home.attach("phone");
    home.drain(&phone);
    home.commit();
    home.crash(0);
    let answers = [1, 2, 3].map(|seq| home.send(note(seq).notify()));
    assert_eq!(answers, [[Expired], [Expired], [Delivered]]);
}

#[test]
fn one_that_was_refused_stays_refused() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    submit(&mut home, &note(1));
    let full = [Refused(Refusal::MailboxFull)];
    assert_eq!(home.send(note(2)), full);
    home.rules.mailbox.messages = 10;
    assert_eq!(home.send(note(2)), full, "there is room now, but no is no");
    assert_eq!(home.tally.duplicates, 1);
    submit(&mut home, &note(3));
    home.commit();
    home.crash(0);
    assert_eq!(home.send(note(2)), full, "in another run, too");
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1, 3]);
}

#[test]
fn the_end_of_one_that_was_not_delivered_is_told_as_it_was() {
    let mut home = Home::new();
    submit(&mut home, &note(1).ttl(1));
    submit(&mut home, &note(2).key("k"));
    submit(&mut home, &note(3).key("k"));
    home.commit();
    home.pass(Duration::from_secs(2));
    assert_eq!(home.send(note(1).ttl(1)), [Expired]);
    assert_eq!(home.send(note(2).key("k")), [Replaced]);
    assert_eq!(home.send(note(3).key("k")), [Stored]);
    let phone = home.attach("phone");
    home.drain(&phone);
    assert_eq!(home.send(note(3).key("k")), [Delivered]);
    home.commit();
    home.crash(0);
    assert_eq!(
        home.send(note(3).key("k")),
        [Stored],
        "nobody knows any more"
    );
}

#[test]
fn who_asked_for_the_end_hears_it_in_a_later_session_and_run() {
    let mut home = Home::new();
    submit(&mut home, &note(1).notify());
    home.commit();
    let again = submit(&mut home, &note(1).notify());
    assert_eq!(outcomes(&again), [Stored]);
    home.crash(0);
    let again = submit(&mut home, &note(1).notify());
    assert_eq!(outcomes(&again), [Stored]);
    let phone = home.attach("phone");
    home.drain(&phone);
    assert_eq!(outcomes(&again), [Delivered]);
    assert_eq!(home.send(note(1).notify()), [Delivered]);
}

#[test]
fn a_fan_out_is_answered_when_every_part_is_in_whatever_run_it_was_stored() {
    let mut home = Home::new();
    let [phone, tablet] = ["phone", "tablet"].map(|device| home.attach(device));
    home.detach(&phone);
    home.detach(&tablet);
    let message = mail("alice/pc", 1, "alice").notify();
    submit(&mut home, &message);
    home.commit();
    home.crash(0);
    let again = submit(&mut home, &message);
    assert_eq!(outcomes(&again), [Stored]);
    let phone = home.attach("phone");
    home.drain(&phone);
    assert_eq!(outcomes(&again), [], "the tablet does not have it");
    let tablet = home.attach("tablet");
    home.drain(&tablet);
    assert_eq!(outcomes(&again), [Delivered]);
}

/// The phone's part is only in memory; `stored` must not be said when the tablet's is on the disk.
#[test]
fn a_device_that_joined_between_two_tries_does_not_hide_a_part_that_is_not_safe() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    let message = mail("alice/pc", 1, "alice");
    let first = submit(&mut home, &message);
    let tablet = home.attach("tablet");
    home.detach(&tablet);
    home.commit();
    let second = submit(&mut home, &message);
    home.commit();
    assert_eq!(home.rows().messages.len(), 1, "the tablet's is on the disk");
    assert_eq!(outcomes(&second), []);
    home.drain(&phone);
    assert_eq!([outcomes(&first), outcomes(&second)], [[Stored], [Stored]]);
    let tablet = home.attach("tablet");
    assert_eq!(home.drain(&tablet), [1]);
}

/// What was accepted once cannot be refused any more: a device may have shown it already.
#[test]
fn a_message_that_some_devices_have_is_not_refused_because_another_is_full() {
    let mut home = Home::with(|rules| rules.mailbox.messages = 1);
    let phone = home.attach("phone");
    let message = mail("alice/pc", 1, "alice");
    submit(&mut home, &message);
    assert_eq!(home.drain(&phone), [1]);
    let tablet = home.attach("tablet");
    home.detach(&tablet);
    home.send(mail("service/push", 1, "alice/tablet"));
    let again = submit(&mut home, &message);
    home.commit();
    assert_eq!(outcomes(&again), [Stored]);
    let tablet = home.attach("tablet");
    assert_eq!(home.drain(&tablet), [1, 1]);
}

#[test]
fn a_retry_of_a_retained_message_does_not_put_it_in_a_newer_ones_place() {
    let mut home = Home::new();
    let photo = mail("alice/pc", 1, "alice").bulk().retain("k").body("old");
    submit(&mut home, &photo);
    submit(
        &mut home,
        &mail("alice/pc", 1, "alice").retain("k").body("new"),
    );
    home.commit();
    let answered: Vec<Outcome> = outcomes(&submit(&mut home, &photo));
    assert_eq!(answered, [Delivered], "there was no device to wait for");
    home.crash(0);
    submit(&mut home, &photo);
    home.commit();
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert!(
        matches!(&seen[..], [super::fixture::Seen::Message { body, .. }] if body == "new"),
        "{seen:?}"
    );
}

#[test]
fn a_retained_message_is_not_said_to_be_stored_before_it_is() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    home.commit();
    let message = mail("alice/pc", 1, "alice").retain("k");
    let first = submit(&mut home, &message);
    home.drain(&phone);
    let second = submit(&mut home, &message);
    assert_eq!([outcomes(&first), outcomes(&second)], [[], []]);
    home.commit();
    assert_eq!([outcomes(&first), outcomes(&second)], [[Stored], [Stored]]);
}

#[test]
fn an_old_session_that_is_not_heard_any_more_takes_no_memory() {
    let mut home = Home::new();
    let gone = submit(&mut home, &note(1).notify());
    home.commit();
    gone.close();
    assert!(!home.account.is_settled(), "somebody waited for the end");
    home.pass(Duration::from_secs(1));
    assert!(home.account.is_settled());
    let again = submit(&mut home, &note(1).notify());
    let phone = home.attach("phone");
    home.ack(&phone, Lane::Message, u64::MAX);
    assert_eq!(outcomes(&again), [Stored, Delivered]);
    assert_eq!(outcomes(&gone), []);
}
