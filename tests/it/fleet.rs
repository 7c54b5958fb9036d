//! Several relays: accounts at home on one, devices attached to another.

use holdfast::{Client, Outcome, SendOptions, State};
use holdfast_relay::{Limits, Strangers};
use holdfast_tests::{
    net::{Net, eventually, test_limits, within},
    scrape::metric,
};

use crate::support::{next, numbered, receive, receive_texts, send, send_with, text};

fn open_limits() -> Limits {
    Limits {
        strangers: Strangers::Open,
        ..test_limits()
    }
}

/// Two accounts that are at home on different relays, and those relays.
async fn two_homes(net: &Net) -> ([String; 2], [String; 2]) {
    let first = net.home("a0").await;
    for number in 1.. {
        let account = format!("a{number}");
        let home = net.home(&account).await;
        if home != first {
            return (["a0".to_owned(), account], [first, home]);
        }
    }
    unreachable!()
}

async fn close_all(clients: impl IntoIterator<Item = Client>) {
    for client in clients {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_one_account_reach_each_other_from_different_relays() {
    let net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    let (pc, _guide) = net.client_at("alice/pc", &other).await;
    let phone = net.client("alice/phone").await;
    assert_eq!(phone.attached().await.unwrap().as_str(), home);
    let admin = net.admin_address(&home);
    eventually("both on the home's list", async || {
        metric(admin, "online").await == 2.0
    })
    .await;
    for (from, to, address) in [(&pc, &phone, "alice/phone"), (&phone, &pc, "alice/pc")] {
        let sent = from
            .send(address, "across", SendOptions::default())
            .await
            .unwrap();
        let message = next(to).await;
        assert_eq!(message.id(), sent.id());
        message.done().await.unwrap();
        assert_eq!(
            within("a receipt", sent.stored()).await,
            Ok(Outcome::Delivered)
        );
    }
    close_all([pc, phone]).await;
    eventually("both off the list", async || {
        metric(admin, "online").await == 0.0
    })
    .await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_away_from_home_gets_its_stored_mail_and_its_bulk() {
    let net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    let pc = net.client("alice/pc").await;
    let texts = numbered("kept", 300);
    for text in &texts {
        pc.send("alice/phone", text.clone(), SendOptions::default())
            .await
            .unwrap();
    }
    let photo = vec![7_u8; 200_000];
    let large = pc
        .send("alice/tablet", photo.clone(), SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        within("a receipt", large.stored()).await,
        Ok(Outcome::Stored)
    );
    let (phone, _guide) = net.client_at("alice/phone", &other).await;
    assert_eq!(receive_texts(&phone, 300).await, texts);
    let (tablet, _guide) = net.client_at("alice/tablet", &other).await;
    let message = next(&tablet).await;
    assert_eq!(message.body(), &photo);
    message.done().await.unwrap();
    let admin = net.admin_address(&home);
    eventually("empty mailboxes", async || {
        metric(admin, "mailbox_bytes").await == 0.0
    })
    .await;
    close_all([pc, phone, tablet]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_at_different_homes_reach_each_other() {
    let net = Net::start_with(2, open_limits()).await;
    let (accounts, _) = two_homes(&net).await;
    let pc = net.client(&format!("{}/pc", accounts[0])).await;
    let phone = net.client(&format!("{}/phone", accounts[1])).await;
    let to = format!("{}/phone", accounts[1]);
    let sent = pc
        .send(&to, "over the link", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive(&phone).await.1, "over the link");
    assert_eq!(
        within("a receipt", sent.stored()).await,
        Ok(Outcome::Delivered)
    );
    phone.close().await;
    assert_eq!(send(&pc, &to, "while away").await, Ok(Outcome::Stored));
    let photo = vec![3_u8; 500_000];
    let large = pc
        .send(&to, photo.clone(), SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        within("a receipt", large.stored()).await,
        Ok(Outcome::Stored)
    );
    let phone = net.client(&to).await;
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let message = next(&phone).await;
        sizes.push(message.body().len());
        message.done().await.unwrap();
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [10, 500_000]);
    close_all([pc, phone]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_home_is_down_its_mail_is_late_and_not_lost() {
    let mut net = Net::start_with(2, open_limits()).await;
    let (accounts, homes) = two_homes(&net).await;
    let pc = net.client(&format!("{}/pc", accounts[0])).await;
    let to = format!("{}/phone", accounts[1]);
    assert_eq!(send(&pc, &to, "before").await, Ok(Outcome::Stored));
    net.stop_relay(&homes[1]).await;
    let mut waiting = Vec::new();
    for text in numbered("during", 20) {
        waiting.push(pc.send(&to, text, SendOptions::default()).await.unwrap());
    }
    // Nothing of this holds up mail for accounts whose home is there.
    let own = format!("{}/phone", accounts[0]);
    assert_eq!(send(&pc, &own, "unhindered").await, Ok(Outcome::Stored));
    net.start_relay(&homes[1]).await;
    for sent in waiting {
        assert_eq!(
            within("a receipt", sent.stored()).await,
            Ok(Outcome::Stored)
        );
    }
    let phone = net.client(&to).await;
    let mut expected = vec!["before".to_owned()];
    expected.extend(numbered("during", 20));
    assert_eq!(receive_texts(&phone, 21).await, expected);
    close_all([pc, phone]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_away_from_home_outlives_its_homes_restart() {
    let mut net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    let (phone, _guide) = net.client_at("alice/phone", &other).await;
    let (pc, _guide) = net.client_at("alice/pc", &other).await;
    let admin = net.admin_address(&home);
    eventually("both on the home's list", async || {
        metric(admin, "online").await == 2.0
    })
    .await;
    net.stop_relay(&home).await;
    let sent = pc
        .send("alice/phone", "late", SendOptions::default())
        .await
        .unwrap();
    net.start_relay(&home).await;
    assert_eq!(receive(&phone).await.1, "late");
    assert!(within("a receipt", sent.stored()).await.is_ok());
    close_all([pc, phone]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_elsewhere_supersedes_the_one_at_home() {
    let net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    let older = net.client("alice/phone").await;
    let mut states = older.states();
    let (newer, _guide) = net.client_at("alice/phone", &other).await;
    let superseded = async { while states.changed().await != Some(State::Superseded) {} };
    within("word of the newer session", superseded).await;
    let pc = net.client("alice/pc").await;
    let sent = pc
        .send("alice/phone", "to the newer", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive(&newer).await.1, "to the newer");
    assert!(within("a receipt", sent.stored()).await.is_ok());
    let admin = net.admin_address(&home);
    eventually("an empty mailbox", async || {
        metric(admin, "mailbox_bytes").await == 0.0
    })
    .await;
    // And back again: the one at home evicts the one elsewhere.
    let mut states = newer.states();
    older.reconnect();
    let superseded = async { while states.changed().await != Some(State::Superseded) {} };
    within("word of the newer session", superseded).await;
    pc.send("alice/phone", "to the newest", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive(&older).await.1, "to the newest");
    close_all([older, newer, pc]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_state_and_permissions_pass_over_the_link() {
    let net = Net::start(2).await;
    let (_, other) = net.home_and_other("alice").await;
    let (pc, _guide) = net.client_at("alice/pc", &other).await;
    let options = SendOptions {
        key: Some("k".into()),
        retain: true,
        ..Default::default()
    };
    assert_eq!(
        send_with(&pc, "alice", "state", options).await,
        Ok(Outcome::Stored)
    );
    pc.allow(&"bob".parse().unwrap(), true).await.unwrap();
    let bob = net.client("bob/pc").await;
    let (tablet, _guide) = net.client_at("alice/tablet", &other).await;
    assert_eq!(receive(&tablet).await.1, "state");
    bob.send("alice/tablet", "allowed", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        receive(&tablet).await,
        ("bob/pc".to_owned(), "allowed".to_owned())
    );
    close_all([pc, bob, tablet]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_allocator_devices_stay_and_come_back() {
    let mut net = Net::start(1).await;
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    net.stop_allocator().await;
    pc.send("alice/phone", "still here", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive(&phone).await.1, "still here");
    let mut states = pc.states();
    net.stop_relay("r1").await;
    let lost = async {
        while matches!(states.current(), State::Attached { .. }) {
            states.changed().await;
        }
    };
    within("the loss", lost).await;
    net.start_relay("r1").await;
    within("a session", pc.attached()).await.unwrap();
    within("a session", phone.attached()).await.unwrap();
    pc.send("alice/phone", "back again", SendOptions::default())
        .await
        .unwrap();
    let message = next(&phone).await;
    assert_eq!(text(&message), "back again");
    message.done().await.unwrap();
    net.start_allocator().await;
    net.leased("r1").await;
    close_all([pc, phone]).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_stay_where_they_are_when_the_allocator_restarts_and_a_relay_joins() {
    let mut net = Net::start(2).await;
    let accounts = numbered("account", 10);
    let mut before = Vec::new();
    for account in &accounts {
        before.push(net.home(account).await);
    }
    net.stop_allocator().await;
    net.start_allocator().await;
    net.leased("r1").await;
    net.leased("r2").await;
    net.add_relay("r3", test_limits()).await;
    for (account, home) in accounts.iter().zip(before) {
        assert_eq!(net.home(account).await, home);
    }
    net.stop().await;
}
