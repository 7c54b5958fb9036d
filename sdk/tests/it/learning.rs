//! What was learned of a network outlives the client.

use std::time::Duration;

use holdfast::{Client, Config, PingSchedule};

use crate::{
    fake::{FakeAllocator, FakeRelay},
    world::{World, within},
};

/// So short that a network is known within seconds.
const SCHEDULE: PingSchedule = PingSchedule {
    interval: Duration::from_millis(100),
    longest: Duration::from_millis(200),
    timeout: Duration::from_secs(5),
    attempts: 3,
};

/// Learning begins with 150 ms, ends at the longest, and relies on 0.8 of it.
const FIRST: u32 = 5_150;
const LEARNED: u32 = 5_160;

async fn at_home(config: &Config) -> Client {
    let client = Client::connect(config.clone()).await.unwrap();
    within(client.attached()).await.unwrap();
    client.network_changed(Some("home"));
    client.background();
    client
}

#[tokio::test]
async fn what_was_learned_of_a_network_is_known_to_the_next_client() {
    let world = World::new();
    let mut relay = FakeRelay::start(&world, "r1");
    let allocator = FakeAllocator::start(&world, &[relay.listed()]);
    let config = Config {
        pings: SCHEDULE,
        ..world.kept(allocator.address())
    };
    let client = at_home(&config).await;
    let mut session = relay.session().await;
    assert_eq!(session.background_ping().await.next_within_ms, FIRST);
    within(async { while session.background_ping().await.next_within_ms != LEARNED {} }).await;
    client.close().await;
    let client = at_home(&config).await;
    let mut session = relay.session().await;
    assert_eq!(session.background_ping().await.next_within_ms, LEARNED);
    client.network_changed(Some("train"));
    within(async { while session.background_ping().await.next_within_ms != FIRST {} }).await;
    client.close().await;
}
