//! Sessions: their ends, their rivals, what survives them.

use std::time::Duration;

use holdfast::{Outcome, SendOptions, State};
use holdfast_tests::{
    guide::Guide,
    link::Link,
    net::{Net, attached, eventually, quick_pings, within},
    scrape::{get, metric, process_metric},
};

use crate::support::{next, numbered, receive, receive_texts, send, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_sessions_stays_and_the_older_is_told() {
    let net = Net::start(1).await;
    let older = net.client("alice/phone").await;
    let mut states = older.states();
    let newer = net.client("alice/phone").await;
    let superseded = async { while states.changed().await != Some(State::Superseded) {} };
    within("word of the newer session", superseded).await;
    let pc = net.client("alice/pc").await;
    let sent = pc
        .send("alice/phone", "to the newer", SendOptions::default())
        .await
        .unwrap();
    assert_eq!(receive(&newer).await.1, "to the newer");
    assert_eq!(
        within("a receipt", sent.stored()).await,
        Ok(Outcome::Delivered)
    );
    assert_eq!(metric(net.admin_address("r1"), "online").await, 2.0);
    for client in [older, newer, pc] {
        client.close().await;
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_has_not_acknowledged_comes_again() {
    let net = Net::start(1).await;
    let (pc, phone) = (
        net.client("alice/pc").await,
        net.client("alice/phone").await,
    );
    let sent = pc
        .send("alice/phone", "twice shown", SendOptions::default())
        .await
        .unwrap();
    let first = next(&phone).await;
    let id = first.id().clone();
    drop(first);
    phone.close().await;
    assert_eq!(
        within("a receipt", sent.stored()).await,
        Ok(Outcome::Stored)
    );
    let phone = net.client("alice/phone").await;
    let again = next(&phone).await;
    assert_eq!((again.id(), text(&again).as_str()), (&id, "twice shown"));
    again.done().await.unwrap();
    phone.close().await;
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_kill_leaves_after_it_and_what_was_done_is_not_seen_twice() {
    let mut net = Net::start(1).await;
    let phone = attached(net.config_on_disk("alice/phone")).await;
    let pc = attached(net.config_on_disk("alice/pc")).await;
    send(&pc, "alice/phone", "before").await.ok();
    assert_eq!(receive(&phone).await.1, "before");
    net.stop_relay("r1").await;
    for text in numbered("offline", 5) {
        pc.send("alice/phone", text, SendOptions::default())
            .await
            .unwrap();
    }
    pc.close().await;
    phone.close().await;
    net.start_relay("r1").await;
    let pc = attached(net.config_on_disk("alice/pc")).await;
    let phone = attached(net.config_on_disk("alice/phone")).await;
    assert_eq!(receive_texts(&phone, 5).await, numbered("offline", 5));
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_stored_messages_survive_a_restart_and_come_in_order() {
    const COUNT: usize = 10_000;
    let mut net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    let texts = numbered("mail", COUNT);
    let mut receipts = Vec::with_capacity(COUNT);
    for text in &texts {
        receipts.push(
            pc.send("alice/phone", text.clone(), SendOptions::default())
                .await
                .unwrap(),
        );
    }
    for receipt in receipts {
        assert_eq!(
            within("a receipt", receipt.stored()).await,
            Ok(Outcome::Stored)
        );
    }
    pc.close().await;
    net.stop_relay("r1").await;
    net.start_relay("r1").await;
    let phone = net.client("alice/phone").await;
    for expected in &texts {
        let message = next(&phone).await;
        assert_eq!(text(&message), *expected);
        message.done().await.unwrap();
    }
    let admin = net.admin_address("r1");
    eventually("the drain", async || {
        metric(admin, "drained_total").await == 10_000.0
    })
    .await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_overtake_a_large_one_and_both_arrive_whole() {
    let net = Net::start(1).await;
    let link = Link::start(1, net.relay_address("r1")).await.unwrap();
    let guide = Guide::start(&net.pki, &[("r1", link.addr())]).await;
    let config = holdfast::Config {
        allocators: vec![guide.address()],
        ..net.config("alice/pc")
    };
    let (pc, phone) = (attached(config).await, net.client("alice/phone").await);
    // Both wait on the same path when it opens again.
    link.freeze();
    let photo: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let large = pc
        .send("alice/phone", photo.clone(), SendOptions::default())
        .await
        .unwrap();
    let texts = numbered("chat", 20);
    for text in &texts {
        pc.send("alice/phone", text.clone(), SendOptions::default())
            .await
            .unwrap();
    }
    link.thaw();
    let mut arrived = Vec::new();
    for _ in 0..21 {
        let message = next(&phone).await;
        arrived.push((message.body().len(), message.body().clone()));
        message.done().await.unwrap();
    }
    let position = arrived
        .iter()
        .position(|(size, _)| *size == photo.len())
        .unwrap();
    assert!(position > 0, "no small message came before the large one");
    assert_eq!(arrived.remove(position).1, photo);
    let small: Vec<String> = arrived
        .iter()
        .map(|(_, body)| String::from_utf8(body.to_vec()).unwrap())
        .collect();
    assert_eq!(small, texts);
    assert_eq!(
        within("a receipt", large.stored()).await,
        Ok(Outcome::Delivered)
    );
    pc.close().await;
    phone.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_hears_when_a_stored_message_is_delivered() {
    let net = Net::start(1).await;
    let pc = net.client("alice/pc").await;
    let options = SendOptions {
        notify: true,
        ..Default::default()
    };
    let sent = pc.send("alice/phone", "tell me", options).await.unwrap();
    assert_eq!(
        within("a receipt", sent.stored()).await,
        Ok(Outcome::Stored)
    );
    let phone = net.client("alice/phone").await;
    assert_eq!(receive(&phone).await.1, "tell me");
    assert_eq!(
        within("the end", sent.delivered()).await,
        Ok(Outcome::Delivered)
    );
    phone.close().await;
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_sends_its_devices_to_the_others() {
    let mut net = Net::start(2).await;
    let (home, other) = net.home_and_other("alice").await;
    let pc = net.client("alice/pc").await;
    assert_eq!(pc.attached().await.unwrap().as_str(), home);
    let mut states = pc.states();
    net.stop_relay(&home).await;
    let moved = async {
        loop {
            if matches!(states.changed().await, Some(State::Attached { relay }) if relay.as_str() == other)
            {
                return;
            }
        }
    };
    within("the other relay", moved).await;
    pc.close().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_client_leaves_no_task_behind() {
    let net = Net::start(1).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let config = holdfast::Config {
        pings: holdfast::PingSchedule {
            interval: Duration::from_secs(60),
            ..quick_pings()
        },
        ..net.config("alice/pc")
    };
    let pc = attached(config).await;
    pc.close().await;
    // The relay's own task for the connection ends with it.
    eventually("the last task's end", async || tasks() <= before).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_say_how_the_relay_is() {
    let net = Net::start(1).await;
    let admin = net.admin_address("r1");
    let pc = net.client("alice/pc").await;
    send(&pc, "alice/phone", "12345").await.unwrap();
    let (code, health) = get(admin, "/health").await;
    assert_eq!(code, 200);
    assert!(
        health.contains("\"status\":\"ok\"") && health.contains("\"sessions\":1"),
        "{health}"
    );
    assert_eq!(metric(admin, "sessions").await, 1.0);
    assert_eq!(metric(admin, "stored_total").await, 1.0);
    assert!(metric(admin, "mailbox_bytes").await >= 5.0);
    assert!(metric(admin, "flush_seconds_total").await > 0.0);
    #[cfg(target_os = "linux")]
    {
        assert!(process_metric(admin, "process_cpu_seconds_total").await > 0.0);
        let resident = process_metric(admin, "process_resident_memory_bytes").await;
        assert!(resident > 1024.0 * 1024.0, "{resident}");
    }
    send(&pc, "bob/phone", "not allowed").await.unwrap_err();
    // The answer may be out a moment before it is counted.
    eventually("the count", async || {
        metric(admin, "refused_total{reason=\"not_allowed\"}").await == 1.0
    })
    .await;
    pc.close().await;
    net.stop().await;
}
