//! Forwarding, storing and draining: who gets what when, and what touches the disk.

use std::time::Duration;

use holdfast_protocol::{
    id::{Lane, Name},
    limits::{BULK_DELIVERY_WINDOW, DELIVERY_WINDOW, DELIVERY_WINDOW_BYTES},
    message::Outcome::{Delivered, Stored},
};

use super::fixture::{Home, Seen, mail, note, outcomes};
use crate::mail::{desk::Write, message::Place, outlet::Outlet};

const GRACE: Duration = Duration::from_millis(400);

fn positions(seen: &[Seen]) -> Vec<u64> {
    seen.iter().filter_map(Seen::position).collect()
}

#[test]
fn an_attached_device_gets_a_message_without_a_write() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    let phone = home.attach("phone");
    home.commit();
    home.submit(note(1).into(), &outlet);
    let seen = home.take(&phone);
    assert_eq!(outcomes(&outlet), [], "the application does not have it");
    home.ack(&phone, Lane::Message, positions(&seen)[0]);
    assert_eq!(outcomes(&outlet), [Delivered]);
    assert_eq!(home.tail.len(), 0);
    assert_eq!(home.tally.forwarded, 1);
    home.assert_empty();
}

#[test]
fn an_absent_device_has_it_stored_when_it_is_durable() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    home.submit(note(1).into(), &outlet);
    assert_eq!(outcomes(&outlet), []);
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored]);
    assert_eq!(home.held, 0, "the body is on the disk now");
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1]);
    assert_eq!(outcomes(&outlet), [], "the sender did not ask for the end");
    assert_eq!((home.tally.stored, home.tally.drained), (1, 1));
    home.commit();
    home.assert_empty();
}

#[test]
fn the_window_counts_messages() {
    let mut home = Home::new();
    let total = DELIVERY_WINDOW as u64 + 44;
    for seq in 1..=total {
        home.send(note(seq));
    }
    home.commit();
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert_eq!(seen.len(), DELIVERY_WINDOW);
    assert!(positions(&seen).is_sorted_by(|a, b| a < b));
    home.ack(&phone, Lane::Message, positions(&seen)[9]);
    assert_eq!(home.seqs(&phone), Vec::from_iter(257..=266));
    home.ack(&phone, Lane::Message, positions(&seen)[9]);
    assert_eq!(
        home.seqs(&phone),
        [0_u64; 0],
        "an acknowledgement that says nothing new"
    );
    home.ack(&phone, Lane::Message, u64::MAX);
    assert_eq!(home.drain(&phone), Vec::from_iter(267..=total));
    home.assert_empty();
}

#[test]
fn the_window_counts_bytes_and_always_lets_one_through() {
    let mut home = Home::with(|rules| rules.max_body = 2 * DELIVERY_WINDOW_BYTES);
    let sizes = [
        DELIVERY_WINDOW_BYTES / 2,
        DELIVERY_WINDOW_BYTES / 2,
        1,
        2 * DELIVERY_WINDOW_BYTES,
    ];
    for (seq, size) in (1..).zip(sizes) {
        home.send(note(seq).body(vec![0; size]));
    }
    home.commit();
    let phone = home.attach("phone");
    assert_eq!(home.seqs(&phone), [1, 2]);
    home.ack(&phone, Lane::Message, u64::MAX);
    assert_eq!(home.seqs(&phone), [3]);
    home.ack(&phone, Lane::Message, u64::MAX);
    assert_eq!(home.seqs(&phone), [4], "however large");
}

#[test]
fn what_is_acknowledged_is_deleted_up_to_there() {
    let mut home = Home::new();
    for seq in 1..=5 {
        home.send(note(seq).body("1 KiB"));
    }
    home.commit();
    let phone = home.attach("phone");
    let at = positions(&home.take(&phone));
    let through = |home: &Home| match home.deletions()[..] {
        [
            Write::DeleteThrough {
                position, bytes, ..
            },
        ] => (position, bytes / 100),
        _ => panic!("{:?}", home.deletions()),
    };
    home.ack(&phone, Lane::Message, at[0]);
    assert_eq!(through(&home), (at[0], 1));
    home.ack(&phone, Lane::Message, at[3]);
    assert_eq!(through(&home), (at[3], 3));
    home.crash(usize::MAX);
    let phone = home.attach("phone");
    let last = positions(&home.take(&phone));
    assert_eq!(last, at[4..]);
    home.ack(&phone, Lane::Message, last[0]);
    let [Write::DeleteMessage(Place::Mailbox { position, .. })] = home.deletions()[..] else {
        panic!("{:?}", home.deletions());
    };
    assert_eq!(position, at[4]);
}

#[test]
fn what_is_acknowledged_leaves_its_bytes_of_the_window_to_others() {
    let mut home = Home::new();
    for seq in 1..=3 {
        home.send(note(seq).body(vec![0; DELIVERY_WINDOW_BYTES / 2]));
    }
    home.commit();
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    assert_eq!(seen.len(), 2);
    home.ack(&phone, Lane::Message, positions(&seen)[0]);
    assert_eq!(home.seqs(&phone), [3]);
}

#[test]
fn the_lanes_do_not_wait_for_each_other() {
    let mut home = Home::new();
    for seq in 1..=BULK_DELIVERY_WINDOW as u64 + 2 {
        home.send(note(seq).bulk());
    }
    home.send(note(1));
    home.commit();
    let phone = home.attach("phone");
    let seen = home.take(&phone);
    let lane = |seen: &Seen| match seen {
        Seen::Message { id, .. } => id.lane,
        other => panic!("{other:?}"),
    };
    let of_lane = |of| seen.iter().filter(|seen| lane(seen) == of).count();
    assert_eq!(
        (of_lane(Lane::Bulk), of_lane(Lane::Message)),
        (BULK_DELIVERY_WINDOW, 1)
    );
    home.ack(&phone, Lane::Message, u64::MAX);
    assert_eq!(
        home.seqs(&phone),
        [0_u64; 0],
        "an acknowledgement is for one lane"
    );
    home.ack(&phone, Lane::Bulk, u64::MAX);
    assert_eq!(home.seqs(&phone), [5, 6]);
}

#[test]
fn an_acknowledgement_ahead_of_what_was_handed_over_takes_nothing_else() {
    let mut home = Home::new();
    for seq in 1..=6 {
        home.send(note(seq).bulk());
    }
    home.commit();
    let phone = home.attach("phone");
    home.take(&phone);
    home.ack(&phone, Lane::Bulk, u64::MAX);
    assert_eq!(home.seqs(&phone), [5, 6]);
}

#[test]
fn the_end_of_a_session_writes_what_is_held_and_the_next_one_gets_it_again() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    let phone = home.attach("phone");
    home.submit(note(1).into(), &outlet);
    home.submit(note(2).bulk().into(), &outlet);
    assert_eq!(home.seqs(&phone), [1, 2]);
    home.detach(&phone);
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored, Stored]);
    assert_eq!(home.rows().messages.len(), 2);
    let phone = home.attach("phone");
    assert_eq!(home.drain(&phone), [1, 2]);
    home.commit();
    home.assert_empty();
}

#[test]
fn a_device_that_does_not_answer_in_time_has_its_mail_written() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    let phone = home.attach("phone");
    home.commit();
    home.submit(note(1).into(), &outlet);
    assert_eq!(home.account.due(), Some(home.now.time + GRACE));
    home.pass(GRACE - Duration::from_millis(1));
    assert_eq!(home.tail.len(), 0);
    home.pass(Duration::from_millis(1));
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored]);
    assert_eq!(home.drain(&phone), [1], "and it was not handed over twice");
}

#[test]
fn the_grace_follows_the_devices_round_trips() {
    let mut home = Home::new();
    let phone = home.attach("phone");
    for seq in 1..=50 {
        home.send(note(seq));
        home.now.time = home.now.time + Duration::from_millis(30);
        home.drain(&phone);
    }
    home.send(note(51));
    let due = home.account.due().unwrap().since(home.now.time);
    assert!(
        (Duration::from_millis(119)..Duration::from_millis(130)).contains(&due),
        "{due:?}"
    );
}

#[test]
fn what_is_past_the_bounds_of_memory_is_written_at_once() {
    let mut home = Home::with(|rules| rules.max_held_bytes_per_device = 100);
    let phone = home.attach("phone");
    home.commit();
    home.send(note(1).body(vec![0; 50]));
    home.send(note(2).body(vec![0; 50]));
    assert_eq!(home.tail.len(), 0);
    home.send(note(3).body(vec![0; 1]));
    assert_eq!(home.tail.len(), 1, "all, so that the disk has no hole");
    home.commit();
    assert_eq!(home.rows().messages.len(), 3);
    assert_eq!(home.drain(&phone), [1, 2, 3]);
    home.commit();
    for seq in 4..=5 {
        home.send(note(seq).body(vec![0; 100]));
        assert_eq!(home.tail.len(), 0, "what was before it is gone");
        assert_eq!(home.drain(&phone), [seq]);
    }

    let mut home = Home::with(|rules| rules.max_held_bytes = 100);
    let _attached = ["phone", "tablet"].map(|device| home.attach(device));
    home.commit();
    home.send(note(1).body(vec![0; 60]));
    home.send(mail("alice/pc", 2, "alice/tablet").body(vec![0; 60]));
    home.commit();
    assert_eq!(
        home.rows().messages.len(),
        1,
        "the tablet's does not fit in all"
    );
}

#[test]
fn an_account_is_all_its_devices_but_the_sender() {
    let (mut home, outlet) = (Home::new(), Outlet::new());
    let [phone, pc] = ["phone", "pc"].map(|device| home.attach(device));
    let tablet = home.attach("tablet");
    home.detach(&tablet);
    let online: Vec<&Name> = home.account.online_devices().collect();
    assert_eq!(online, [&pc.name, &phone.name]);
    assert_eq!(home.account.online(), 2);
    home.submit(mail("alice/pc", 1, "alice").into(), &outlet);
    assert_eq!(home.drain(&phone), [1]);
    assert_eq!(home.drain(&pc), [0_u64; 0]);
    assert_eq!(outcomes(&outlet), [], "the tablet's part is not safe");
    home.commit();
    assert_eq!(outcomes(&outlet), [Stored]);
    let tablet = home.attach("tablet");
    assert_eq!(home.drain(&tablet), [1]);
    home.assert_empty();
}

#[test]
fn the_newer_session_takes_the_older_ones_place() {
    let mut home = Home::new();
    let old = home.attach("phone");
    home.send(note(1));
    assert_eq!(home.seqs(&old), [1]);
    home.pass(Duration::from_millis(1));
    let new = home.attach("phone");
    assert_eq!(home.take(&old), [Seen::Superseded]);
    let seen = home.take(&new);
    assert_eq!(seen.len(), 1, "what the older one did not acknowledge");
    home.ack(&old, Lane::Message, u64::MAX);
    home.detach(&old);
    home.send(note(2));
    assert_eq!(home.seqs(&new), [2], "the older one's end means nothing");
    home.ack(&new, Lane::Message, u64::MAX);
    assert_eq!(home.tally.superseded, 1);
    home.commit();
    home.assert_empty();
}

#[test]
fn live_mail_queues_behind_what_waits() {
    let mut home = Home::new();
    for seq in 1..=DELIVERY_WINDOW as u64 {
        home.send(note(seq));
    }
    home.commit();
    let phone = home.attach("phone");
    home.send(note(257));
    assert_eq!(home.seqs(&phone), Vec::from_iter(1..=256));
    home.ack(&phone, Lane::Message, u64::MAX);
    assert_eq!(home.seqs(&phone), [257]);
}
