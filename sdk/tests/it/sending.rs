//! From the app to the relay.

use std::time::Duration;

use holdfast::{Client, Lane, Outcome, Priority, Refusal, SendError, SendOptions, Unsent};
use holdfast_protocol::{
    allocation::Allocation, close::CloseCode, message::Outcome as Answer, server::Event,
};

use crate::{
    fake::{FakeAllocator, FakeRelay},
    world::{World, within},
};

fn notify() -> SendOptions {
    SendOptions {
        notify: true,
        ..SendOptions::default()
    }
}

async fn send(client: &Client, body: &'static str) -> holdfast::Sent {
    let sent = client.send("alice/pc", body, SendOptions::default());
    within(sent).await.unwrap()
}

#[tokio::test]
async fn receipts_reach_the_handle() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();

    let options = SendOptions {
        ttl: Some(Duration::from_millis(1500)),
        key: Some("bookmarks".to_owned()),
        retain: true,
        notify: true,
        priority: Priority::Low,
    };
    let sent = within(client.send("alice", "hello", options))
        .await
        .unwrap();
    let mut session = relay.session().await;
    let (submit, body) = session.submitted().await;
    assert_eq!(body, "hello");
    assert_eq!(submit.to.to_string(), "alice");
    assert_eq!(submit.options.ttl_s, Some(2), "rounded up");
    assert_eq!(submit.options.key.unwrap().as_str(), "bookmarks");
    assert!(submit.options.retain && submit.options.notify);
    assert_eq!(submit.options.priority, Priority::Low);
    assert_eq!(
        sent.id().to_string(),
        format!("alice/phone#{:x}.m1", session.hello.outbox)
    );

    session.answer(1, Answer::Stored);
    assert_eq!(within(sent.stored()).await, Ok(Outcome::Stored));
    session.answer(1, Answer::Delivered);
    assert_eq!(within(sent.delivered()).await, Ok(Outcome::Delivered));
}

#[tokio::test]
async fn a_refusal_comes_with_its_reason() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let sent = send(&client, "hello").await;
    let session = relay.session().await;
    session.answer(1, Answer::Refused(Refusal::NotAllowed));
    let refused = Err(Unsent::Refused(Refusal::NotAllowed));
    assert_eq!(within(sent.stored()).await, refused);
}

#[tokio::test]
async fn what_is_sent_offline_leaves_in_order_when_a_relay_is_there() {
    let world = World::new();
    let allocator = FakeAllocator::start(&world, &[]);
    allocator.answers(Allocation::NoRelay { retry_after_ms: 1 });
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    for _ in 0..300 {
        send(&client, "offline").await;
    }
    let mut relay = FakeRelay::start(&world, "r1");
    allocator.name(&[relay.listed()]);
    let mut session = relay.session().await;
    for seq in 1..=300 {
        assert_eq!(session.seqs(1).await, [seq]);
        session.answer(seq, Answer::Stored);
    }
}

#[tokio::test]
async fn a_new_session_gets_what_is_unanswered_again_oldest_first() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let first = send(&client, "1").await;
    let second = send(&client, "2").await;
    let third = send(&client, "3").await;
    let mut session = relay.session().await;
    assert_eq!(session.seqs(3).await, [1, 2, 3]);
    session.answer(2, Answer::Stored);
    within(second.stored()).await.unwrap();
    let epoch = session.hello.outbox;
    session.close(CloseCode::InternalError);

    let mut session = relay.session().await;
    assert_eq!(session.hello.outbox, epoch);
    assert_eq!(session.seqs(2).await, [1, 3]);
    session.answer(1, Answer::Delivered);
    session.answer(3, Answer::Stored);
    assert_eq!(within(first.stored()).await, Ok(Outcome::Delivered));
    assert_eq!(within(third.delivered()).await, Ok(Outcome::Stored));
}

#[tokio::test]
async fn the_outbox_outlives_the_process() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = world.kept(allocator.address());
    let client = Client::connect(config.clone()).await.unwrap();
    let answered = send(&client, "answered").await;
    let unanswered = send(&client, "unanswered").await;
    let awaited = within(client.send("alice/pc", "awaited", notify()))
        .await
        .unwrap();
    let mut session = relay.session().await;
    session.seqs(3).await;
    session.answer(1, Answer::Stored);
    session.answer(3, Answer::Stored);
    within(answered.stored()).await.unwrap();
    within(awaited.stored()).await.unwrap();
    let epoch = session.hello.outbox;
    within(client.close()).await;
    assert_eq!(unanswered.stored().await, Err(Unsent::Closed));
    assert_eq!(awaited.delivered().await, Err(Unsent::Closed));

    let client = Client::connect(config).await.unwrap();
    let later = send(&client, "later").await;
    assert_eq!(later.id().seq, 4);
    let mut session = relay.session().await;
    assert_eq!(session.hello.outbox, epoch);
    let (submit, body) = session.submitted().await;
    assert_eq!((submit.seq, &body[..]), (2, &b"unanswered"[..]));
    assert_eq!(
        session.seqs(2).await,
        [3, 4],
        "one still waits for news of its end"
    );
}

#[tokio::test]
async fn no_more_is_under_way_than_the_window_allows() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let mut session = relay.session().await;
    let bodies = (0..300).map(|_| send(&client, "many"));
    for sent in bodies {
        sent.await;
    }
    assert_eq!(session.seqs(256).await, (1..=256).collect::<Vec<_>>());

    // The control stream keeps order, so what comes before this was sent before it.
    let bob = "bob".parse().unwrap();
    let allowing = client.allow(&bob, true);
    let answering = async {
        let Some(Event::Allow(allow)) = session.next().await else {
            panic!("the window was passed");
        };
        session.order(move |server| server.allowed(allow.tag));
    };
    let (allowed, ()) = within(async { tokio::join!(allowing, answering) }).await;
    assert_eq!(allowed, Ok(()));

    (1..=256).for_each(|seq| session.answer(seq, Answer::Stored));
    assert_eq!(session.seqs(44).await, (257..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn large_bodies_travel_beside_small_ones() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let mut session = relay.session().await;
    let photo = vec![7; 1024 * 1024];
    for _ in 0..6 {
        let sent = client.send("alice/pc", photo.clone(), SendOptions::default());
        assert_eq!(within(sent).await.unwrap().id().lane, Lane::Bulk);
    }
    send(&client, "small").await;
    let mut bulk = Vec::new();
    while bulk.len() < 6 {
        let Some(Event::Submit { lane, submit, body }) = session.next().await else {
            panic!("no message");
        };
        if lane == Lane::Bulk {
            assert_eq!(body, photo);
            bulk.push(submit.seq);
            let receipt = holdfast_protocol::message::Receipt {
                lane,
                seq: submit.seq,
                outcome: Answer::Stored,
            };
            session.order(move |server| server.receipt(&receipt));
        }
    }
    assert_eq!(bulk, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_relay_that_takes_less_refuses_what_was_measured_for_another() {
    let world = World::new();
    let mut relay = FakeRelay::with_limit(&world, "r1", 10);
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    allocator.answers(Allocation::NoRelay { retry_after_ms: 1 });
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let large = send(&client, "more than ten bytes").await;
    let small = send(&client, "small").await;
    allocator.name(&[relay.listed()]);
    let mut session = relay.session().await;
    assert_eq!(session.seqs(1).await, [2]);
    session.answer(2, Answer::Stored);
    within(small.stored()).await.unwrap();
    let refused = Err(Unsent::Refused(Refusal::TooLarge));
    assert_eq!(within(large.stored()).await, refused);

    let now = client.send("alice/pc", "more than ten bytes", SendOptions::default());
    let (size, limit) = (19, 10);
    assert_eq!(now.await.err(), Some(SendError::TooLarge { size, limit }));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let world = World::new();
    let allocator = FakeAllocator::start(&world, &[]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let refused = async |to: &str, size: usize, options: SendOptions| {
        let sent = client.send(to, vec![0; size], options).await;
        sent.expect_err("it was taken")
    };
    let plain = SendOptions::default();
    let keyed = |key: &str, retain| SendOptions {
        key: Some(key.to_owned()),
        retain,
        ..SendOptions::default()
    };
    let no_key = SendOptions {
        retain: true,
        ..SendOptions::default()
    };
    let long = SendOptions {
        ttl: Some(Duration::from_secs(366 * 24 * 3600)),
        ..SendOptions::default()
    };

    let error = refused("alice/", 1, plain.clone()).await;
    assert!(matches!(error, SendError::Recipient(_)), "{error}");
    let error = refused("alice", 1, keyed(&"k".repeat(65), false)).await;
    assert!(matches!(error, SendError::Key(_)), "{error}");
    assert_eq!(refused("alice", 1, no_key).await, SendError::BadRetain);
    for to in ["alice/pc", "bob"] {
        assert_eq!(refused(to, 1, keyed("k", true)).await, SendError::BadRetain);
    }
    let error = refused("alice", 1, long.clone()).await;
    assert_eq!(error, SendError::Ttl(long.ttl.unwrap()));
    let (size, limit) = (1024 * 1024 + 1, 1024 * 1024);
    assert_eq!(
        refused("alice", size, plain).await,
        SendError::TooLarge { size, limit }
    );
}

#[tokio::test]
async fn a_change_of_who_may_write_is_asked_for_until_it_is_made() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let bob = "bob".parse().unwrap();
    let allowing = client.allow(&bob, false);
    let answering = async {
        let mut session = relay.session().await;
        let Some(Event::Allow(first)) = session.next().await else {
            panic!("not asked");
        };
        session.close(CloseCode::InternalError);
        let mut session = relay.session().await;
        let Some(Event::Allow(second)) = session.next().await else {
            panic!("not asked again");
        };
        assert_eq!(first, second);
        assert!(!second.allowed && second.sender.as_str() == "bob");
        session.order(move |server| server.allowed(second.tag));
        session
    };
    let (allowed, _session) = within(async { tokio::join!(allowing, answering) }).await;
    assert_eq!(allowed, Ok(()));
}
