//! From the relay to the app.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use holdfast::{Client, Config, Event, Received};
use holdfast_protocol::{
    close::CloseCode,
    message::{Gap, Options, Priority},
};

use crate::{
    fake::{FakeAllocator, FakeRelay},
    world::{World, within},
};

async fn next(client: &Client) -> Received {
    within(client.next()).await.unwrap()
}

async fn text(client: &Client) -> String {
    String::from_utf8(next(client).await.body().to_vec()).unwrap()
}

#[tokio::test]
async fn a_message_is_acknowledged_when_the_app_is_done() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let mut session = relay.session().await;
    for (position, seq) in [(10, 1), (11, 4), (15, 5)] {
        session.deliver(position, seq, format!("message {seq}"));
    }
    let (first, second, third) = (
        next(&client).await,
        next(&client).await,
        next(&client).await,
    );
    assert_eq!(first.body(), "message 1");
    assert_eq!(first.sender().to_string(), "alice/pc");
    assert_eq!(first.id().to_string(), "alice/pc#5.m1");
    let accepted = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(first.accepted_at(), accepted);

    within(third.done()).await.unwrap();
    within(first.done()).await.unwrap();
    assert_eq!(session.acked().await, 10);
    within(second.done()).await.unwrap();
    assert_eq!(session.acked().await, 15, "the third is done as well");
}

#[tokio::test]
async fn the_app_is_told_what_the_sender_asked_for() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let session = relay.session().await;
    let options = Options {
        key: Some("draft/1".parse().unwrap()),
        retain: true,
        priority: Priority::High,
        ..Options::default()
    };
    session.deliver_with(options, 1, 1, "of a key");
    session.deliver(2, 2, "plain");
    let (keyed, plain) = (next(&client).await, next(&client).await);
    assert_eq!((keyed.key(), plain.key()), (Some("draft/1"), None));
    assert!(keyed.is_retained() && !plain.is_retained());
    let priorities = (keyed.priority(), plain.priority());
    assert_eq!(priorities, (Priority::High, Priority::default()));
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let mut session = relay.session().await;
    session.deliver(3, 1, vec![9; 1024 * 1024]);
    let photo = next(&client).await;
    assert_eq!(photo.body().len(), 1024 * 1024);
    within(photo.done()).await.unwrap();
    assert_eq!(session.acked().await, 3);
}

#[tokio::test]
async fn what_was_done_is_not_seen_again_after_a_restart() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = world.kept(allocator.address());
    let client = Client::connect(config.clone()).await.unwrap();
    let session = relay.session().await;
    let inbox = session.hello.inbox;
    (1..=3).for_each(|seq| session.deliver(seq, seq, format!("message {seq}")));
    within(next(&client).await.done()).await.unwrap();
    let in_hand = next(&client).await;
    within(client.close()).await;
    assert!(in_hand.done().await.is_err(), "too late");

    // The relay crashed, too, and knows of no acknowledgement.
    let client = Client::connect(config).await.unwrap();
    let mut session = relay.session().await;
    assert_eq!(session.hello.inbox, inbox);
    (1..=3).for_each(|seq| session.deliver(seq, seq, format!("message {seq}")));
    assert_eq!(session.acked().await, 1);
    let second = next(&client).await;
    assert_eq!(second.body(), "message 2");
    within(second.done()).await.unwrap();
    assert_eq!(session.acked().await, 2);
    assert_eq!(text(&client).await, "message 3");
}

#[tokio::test]
async fn an_acknowledged_message_is_on_the_devices_disk() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = world.kept(allocator.address());
    let client = Client::connect(config.clone()).await.unwrap();
    let mut session = relay.session().await;
    session.deliver(1, 1, "once");
    let message = next(&client).await;
    let done = tokio::spawn(message.done());
    assert_eq!(session.acked().await, 1);

    // What the disk holds when the acknowledgement arrives, as after a crash at that moment.
    let copy = world.directory("copy");
    fs::create_dir_all(&copy).unwrap();
    for file in fs::read_dir(config.directory.as_ref().unwrap()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    within(done).await.unwrap().unwrap();
    within(client.close()).await;

    let directory = Some(copy);
    let config = Config {
        directory,
        ..config
    };
    let client = Client::connect(config).await.unwrap();
    let mut session = relay.session().await;
    session.deliver(1, 1, "once");
    session.deliver(2, 2, "twice");
    assert_eq!(session.acked().await, 1);
    assert_eq!(text(&client).await, "twice");
}

#[tokio::test]
async fn what_is_in_hand_is_not_shown_twice_and_is_acknowledged_in_the_new_session() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let session = relay.session().await;
    session.deliver(1, 1, "in hand");
    let message = next(&client).await;
    session.close(CloseCode::InternalError);
    let mut session = relay.session().await;
    session.deliver(7, 1, "in hand");
    session.deliver(8, 2, "next");
    assert_eq!(text(&client).await, "next");
    within(message.done()).await.unwrap();
    assert_eq!(session.acked().await, 7);
}

#[tokio::test]
async fn what_the_app_drops_comes_again_with_the_next_session() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let session = relay.session().await;
    session.deliver(1, 1, "dropped");
    drop(next(&client).await);
    session.close(CloseCode::InternalError);
    let mut session = relay.session().await;
    session.deliver(1, 1, "dropped");
    within(next(&client).await.done()).await.unwrap();
    assert_eq!(session.acked().await, 1);
}

#[tokio::test]
async fn a_gap_is_told_and_acknowledged() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let mut session = relay.session().await;
    session.order(|server| {
        server.gap(&Gap {
            position: 9,
            missed: 3,
        });
    });
    let event = within(client.next_event()).await;
    assert!(matches!(event, Some(Event::Gap { missed: 3 })), "{event:?}");
    assert_eq!(session.acked().await, 9);
}
