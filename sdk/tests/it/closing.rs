//! The beginning of a client, as far as it can fail, and its end.

use holdfast::{Client, Config, ConnectError, SendError, SendOptions, State, Unsent};
use holdfast_certs::Identity;
use holdfast_protocol::server::Event;
use tokio::runtime::{Builder, Handle};

use crate::{
    fake::{FakeAllocator, FakeRelay, nobody},
    world::{World, within},
};

#[test]
fn a_closed_client_leaves_no_task_and_no_lock() {
    // Two runtimes, so that the client's tasks can be counted.
    let servers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let clients = Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let (mut relay, allocator) = servers.block_on(async {
        let relay = FakeRelay::start(&world, "r1");
        let allocator = FakeAllocator::start(&world, &[relay.listed()]);
        (relay, allocator)
    });
    clients.block_on(async {
        for _ in 0..3 {
            let client = Client::connect(world.kept(allocator.address()))
                .await
                .unwrap();
            within(client.attached()).await.unwrap();
            let session = relay.session().await;
            within(client.close()).await;
            assert_eq!(client.state(), State::Closed);
            let ending = session.ending().await;
            assert!(ending.to_string().contains("Goodbye"), "{ending}");
            within(no_task()).await;
            within(client.close()).await;
        }
    });
}

/// quinn's own tasks end with their last poll.
async fn no_task() {
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_dropped_client_ends_by_itself() {
    let servers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let clients = Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let (mut relay, allocator) = servers.block_on(async {
        let relay = FakeRelay::start(&world, "r1");
        let allocator = FakeAllocator::start(&world, &[relay.listed()]);
        (relay, allocator)
    });
    clients.block_on(async {
        let client = Client::connect(world.kept(allocator.address()))
            .await
            .unwrap();
        let session = relay.session().await;
        drop(client);
        session.ending().await;
        within(no_task()).await;
    });
}

#[tokio::test]
async fn closing_answers_everybody_who_waits() {
    let world = World::new();
    let (_socket, nobody) = nobody();
    let client = Client::connect(world.kept(nobody)).await.unwrap();
    let sent = client
        .send("alice/pc", "late", SendOptions::default())
        .await
        .unwrap();
    let (waiting, other) = (client.clone(), client.clone());
    let next = tokio::spawn(async move { waiting.next().await.is_none() });
    let bob = "bob".parse().unwrap();
    let allow = tokio::spawn(async move { other.allow(&bob, true).await.is_err() });
    within(client.close()).await;
    assert_eq!(within(sent.stored()).await, Err(Unsent::Closed));
    assert!(within(next).await.unwrap() && within(allow).await.unwrap());
    assert!(client.attached().await.is_err());
    let again = client
        .send("alice/pc", "too late", SendOptions::default())
        .await;
    assert_eq!(again.err(), Some(SendError::Closed));
}

#[tokio::test]
async fn what_was_done_is_acknowledged_before_the_goodbye() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    for seq in 1..=20 {
        let client = Client::connect(world.kept(allocator.address()))
            .await
            .unwrap();
        let mut session = relay.session().await;
        session.deliver(seq, seq, "last");
        let message = within(client.next()).await.unwrap();
        within(message.done()).await.unwrap();
        within(client.close()).await;
        let Some(Event::Ack(ack)) = session.next().await else {
            panic!("not acknowledged");
        };
        assert_eq!(ack.through, seq);
    }
}

#[tokio::test]
async fn a_directory_serves_one_client_at_a_time_and_one_identity() {
    let world = World::new();
    let (_socket, nobody) = nobody();
    let config = world.kept(nobody);
    let client = Client::connect(config.clone()).await.unwrap();
    let directory = config.directory.clone().unwrap();
    let in_use = ConnectError::InUse {
        directory: directory.clone(),
    };
    let second = Client::connect(config.clone()).await;
    assert_eq!(second.err(), Some(in_use));
    within(client.close()).await;

    let other = Config {
        credentials: world.device("bob", "phone"),
        ..config
    };
    let other_owner = ConnectError::OtherOwner {
        directory,
        owner: "spiffe://example.org/device/alice/phone".to_owned(),
        identity: "spiffe://example.org/device/bob/phone".to_owned(),
    };
    assert_eq!(Client::connect(other).await.err(), Some(other_owner));
}

#[tokio::test]
async fn what_is_wrong_on_this_side_is_an_error_at_once() {
    let world = World::new();
    let (_socket, nobody) = nobody();
    let config = world.config(nobody);
    let mut missing = config.clone();
    missing.credentials.key = world.directory("no.key");
    let error = Client::connect(missing).await.unwrap_err();
    assert!(error.to_string().contains("no.key"), "{error}");

    let credentials = world.certificate(&Identity::relay("r1").unwrap());
    let daemon = Config {
        credentials,
        ..config.clone()
    };
    let identity = "relay/r1".to_owned();
    let wrong_kind = ConnectError::WrongKind { identity };
    assert_eq!(Client::connect(daemon).await.err(), Some(wrong_kind));

    let lonely = Config {
        allocators: Vec::new(),
        ..config.clone()
    };
    let error = Client::connect(lonely).await.err();
    assert_eq!(error, Some(ConnectError::NoAllocator));

    let mut pings = config.clone();
    pings.pings.attempts = 0;
    let error = Client::connect(pings).await.err();
    assert_eq!(error, Some(ConnectError::BadPings));

    let mut agent = config;
    agent.agent = String::new();
    let error = Client::connect(agent).await.err();
    assert!(matches!(error, Some(ConnectError::Agent(_))), "{error:?}");
}
