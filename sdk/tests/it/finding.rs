//! Finding a relay, and finding another.

use std::time::Duration;

use holdfast::{Client, Config, Detached, PingSchedule, State};
use holdfast_protocol::{allocation::Allocation, close::CloseCode, message::GoAway};

use crate::{
    fake::{FakeAllocator, FakeRelay, listed, nobody},
    world::{World, reaches, within},
};

async fn attached(client: &Client) -> String {
    within(client.attached()).await.unwrap().to_string()
}

#[tokio::test]
async fn the_second_relay_is_taken_when_the_first_is_dead() {
    let world = World::new();
    let (_socket, dead) = nobody();
    let relay = FakeRelay::start(&world, "r2");
    let allocator = FakeAllocator::start(&world, &[listed("r1", dead), relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    assert_eq!(attached(&client).await, "r2");
    assert_eq!(allocator.asked(), 1);
}

#[tokio::test]
async fn the_allocator_is_asked_again_when_all_relays_are_dead() {
    let world = World::new();
    let (_socket, dead) = nobody();
    let allocator = FakeAllocator::start(&world, &[listed("r1", dead)]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let waiting = reaches(&client, |state| matches!(state, State::Waiting { .. })).await;
    let State::Waiting { why, .. } = waiting else {
        unreachable!();
    };
    assert!(why.contains(&format!("relay r1 at {dead}")), "{why}");
    let relay = FakeRelay::start(&world, "r2");
    allocator.name(&[relay.listed()]);
    assert_eq!(attached(&client).await, "r2");
    assert!(allocator.asked() >= 2);
}

#[tokio::test]
async fn an_allocator_without_relays_is_asked_again() {
    let world = World::new();
    let allocator = FakeAllocator::start(&world, &[]);
    allocator.answers(Allocation::NoRelay { retry_after_ms: 10 });
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let waiting = reaches(&client, |state| matches!(state, State::Waiting { .. })).await;
    let State::Waiting { retry_in, .. } = waiting else {
        unreachable!();
    };
    assert!(retry_in >= Duration::from_millis(10));
    let relay = FakeRelay::start(&world, "r1");
    allocator.name(&[relay.listed()]);
    assert_eq!(attached(&client).await, "r1");
}

#[tokio::test]
async fn the_second_allocator_is_asked_when_the_first_is_dead() {
    let world = World::new();
    let (_socket, dead) = nobody();
    let relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = Config {
        allocators: vec![dead, allocator.address()],
        ..world.config(dead)
    };
    let client = Client::connect(config).await.unwrap();
    assert_eq!(attached(&client).await, "r1");
}

#[tokio::test]
async fn the_answer_is_remembered_so_that_a_dead_allocator_stops_nobody() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = world.kept(allocator.address());
    let client = Client::connect(config.clone()).await.unwrap();
    let session = relay.session().await;
    drop(allocator);
    session.close(CloseCode::InternalError);
    relay.session().await;
    within(client.close()).await;

    let client = Client::connect(config).await.unwrap();
    relay.session().await;
    assert_eq!(attached(&client).await, "r1");
}

#[tokio::test]
async fn a_relay_under_another_name_is_not_trusted() {
    let world = World::new();
    let mut impostor = FakeRelay::start(&world, "r7");
    let relay = FakeRelay::start(&world, "r2");
    let relays = [listed("r1", impostor.address()), relay.listed()];
    let allocator = FakeAllocator::start(&world, &relays);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    assert_eq!(attached(&client).await, "r2");

    allocator.name(&[listed("r1", impostor.address())]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let Err(Detached::Refused(why)) = within(client.attached()).await else {
        panic!("it was trusted");
    };
    assert!(why.contains("this is relay/r7"), "{why}");
    let greeted = tokio::time::timeout(Duration::ZERO, impostor.session());
    assert!(greeted.await.is_err(), "it was greeted");
}

#[tokio::test]
async fn a_refusal_is_told_and_tried_again() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    relay.session().await.close(CloseCode::Revoked);
    let refused = reaches(&client, |state| matches!(state, State::Refused { .. })).await;
    let State::Refused { why, retry_in } = refused else {
        unreachable!();
    };
    assert!(
        why.contains("revoked") && why.contains("new one issued"),
        "{why}"
    );
    assert!(
        retry_in >= Duration::from_millis(50),
        "half the cap at least"
    );
    relay.session().await;
    assert_eq!(attached(&client).await, "r1");
}

#[tokio::test]
async fn another_authority_is_a_refusal() {
    let (world, other) = (World::new(), World::new());
    let relay = FakeRelay::start(&other, "r1");
    let allocator = FakeAllocator::start(&other, &[relay.listed()]);
    let mut config = world.config(allocator.address());
    let client = Client::connect(config.clone()).await.unwrap();
    let Err(Detached::Refused(why)) = within(client.attached()).await else {
        panic!("it was trusted");
    };
    assert!(why.contains("authority"), "{why}");

    // The other way round: we trust them, and they do not trust us.
    config.credentials.authority = other.device("alice", "phone").authority;
    let client = Client::connect(config).await.unwrap();
    let Err(Detached::Refused(why)) = within(client.attached()).await else {
        panic!("it was trusted");
    };
    assert!(why.contains("authority"), "{why}");
}

#[tokio::test]
async fn a_superseded_client_stays_away_until_it_is_told() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    relay.session().await.close(CloseCode::Superseded);
    reaches(&client, |state| *state == State::Superseded).await;
    assert_eq!(within(client.attached()).await, Err(Detached::Superseded));
    client.reconnect();
    assert_eq!(attached(&client).await, "r1");
    relay.session().await;
}

#[tokio::test]
async fn a_silent_relay_is_noticed_and_left() {
    let world = World::new();
    let mut frozen = FakeRelay::start(&world, "r1");
    let mut alive = FakeRelay::start(&world, "r2");
    let allocator = FakeAllocator::start(&world, &[frozen.listed(), alive.listed()]);
    let config = Config {
        pings: PingSchedule {
            interval: Duration::from_millis(100),
            longest: Duration::from_millis(100),
            timeout: Duration::from_millis(200),
            attempts: 3,
        },
        ..world.config(allocator.address())
    };
    let client = Client::connect(config).await.unwrap();
    let session = frozen.session().await;
    reaches(&client, |state| matches!(state, State::Attached { .. })).await;
    frozen.freeze();
    session.freeze();
    alive.session().await;
    reaches(
        &client,
        |state| matches!(state, State::Attached { relay } if relay.as_str() == "r2"),
    )
    .await;
    assert_eq!(allocator.asked(), 1, "the other relay was known");
}

#[tokio::test]
async fn a_pong_tells_the_address_and_the_round_trip() {
    let world = World::new();
    let relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = Config {
        pings: PingSchedule {
            interval: Duration::from_millis(20),
            ..PingSchedule::default()
        },
        ..world.config(allocator.address())
    };
    let client = Client::connect(config).await.unwrap();
    within(async {
        while client.round_trip().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let address = client.observed_address().unwrap();
    assert!(
        address.ip().is_loopback() && address.port() != 0,
        "{address}"
    );
}

#[tokio::test]
async fn a_leaving_relay_is_left_for_its_successor() {
    let world = World::new();
    let mut leaving = FakeRelay::start(&world, "r1");
    let mut successor = FakeRelay::start(&world, "r2");
    let allocator = FakeAllocator::start(&world, &[leaving.listed()]);
    let client = Client::connect(world.config(allocator.address()))
        .await
        .unwrap();
    let session = leaving.session().await;
    let successors = vec![successor.listed()];
    let go_away = GoAway {
        within_ms: 5_000,
        spread_ms: 10,
        successors,
    };
    session.order(move |server| server.go_away(&go_away));
    successor.session().await;
    reaches(
        &client,
        |state| matches!(state, State::Attached { relay } if relay.as_str() == "r2"),
    )
    .await;
    let ending = session.ending().await;
    assert!(ending.to_string().contains("Goodbye"), "{ending}");
    assert_eq!(allocator.asked(), 1);
}
