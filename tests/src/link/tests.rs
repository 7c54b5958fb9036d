//! The link between plain UDP sockets. Where time matters it is paused: the runtime then moves it
//! to the next timer whenever nothing else is left to do, so these tests set no timers themselves.

use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::time::{Instant, advance};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// One end: a client, or the upstream.
struct End(UdpSocket);

impl End {
    async fn bind() -> Self {
        Self::bind_to("127.0.0.1:0").await.unwrap()
    }

    async fn bind_to(addr: &str) -> io::Result<Self> {
        UdpSocket::bind(addr).await.map(Self)
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn send(&self, number: u32, to: SocketAddr) {
        self.0.send_to(&number.to_be_bytes(), to).await.unwrap();
    }

    async fn receive(&self) -> (u32, SocketAddr) {
        let mut buffer = [0; 4];
        let (length, from) = self.0.recv_from(&mut buffer).await.unwrap();
        assert_eq!(length, 4);
        (u32::from_be_bytes(buffer), from)
    }

    async fn receive_all(&self, count: usize) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            numbers.push(self.receive().await.0);
        }
        numbers
    }
}

/// A client, a link with a clear sky, and an upstream.
async fn stretch(seed: u64) -> (End, Link, End) {
    let upstream = End::bind().await;
    let link = Link::start(seed, upstream.addr()).await.unwrap();
    (End::bind().await, link, upstream)
}

#[tokio::test]
async fn packets_pass_both_ways() {
    let (client, link, upstream) = stretch(1).await;
    client.send(7, link.addr()).await;
    let (number, source) = upstream.receive().await;
    assert_eq!(number, 7);
    assert_ne!(source, client.addr());
    upstream.send(8, source).await;
    assert_eq!(client.receive().await, (8, link.addr()));
    link.until(|seen| seen.down.delivered == 1).await;
    let once = Passage {
        packets: 1,
        delivered: 1,
        ..Passage::default()
    };
    assert_eq!(
        link.counts(),
        Counts {
            up: once,
            down: once,
            mappings: 1
        }
    );
}

async fn passes_both_ways(client: &End, link: &Link, upstream: &End) {
    client.send(1, link.addr()).await;
    let (_, source) = upstream.receive().await;
    upstream.send(2, source).await;
    assert_eq!(client.receive().await, (2, link.addr()));
}

#[tokio::test]
async fn the_largest_datagram_passes_whole() {
    let (client, link, upstream) = stretch(1).await;
    let sent = vec![0xa5; 65_507];
    client.0.send_to(&sent, link.addr()).await.unwrap();
    let mut received = vec![0; 65_536];
    let (length, _) = upstream.0.recv_from(&mut received).await.unwrap();
    assert_eq!(received[..length], sent);
}

#[tokio::test]
async fn each_client_gets_its_own_answers() {
    let (_, link, upstream) = stretch(1).await;
    let mut clients = Vec::new();
    for number in 0..50 {
        let client = End::bind().await;
        client.send(number, link.addr()).await;
        let (number, source) = upstream.receive().await;
        clients.push((client, number, source));
    }
    for (_, number, source) in clients.iter().rev() {
        upstream.send(*number, *source).await;
    }
    for (client, number, _) in &clients {
        assert_eq!(client.receive().await.0, *number);
    }
    assert_eq!(link.counts().mappings, 50);
}

/// Which of 200 packets reach the upstream of a link with this seed, with their order and copies.
async fn survivors(seed: u64) -> Vec<u32> {
    let (client, link, upstream) = stretch(seed).await;
    link.set_weather(Weather {
        loss: 0.3,
        duplicate: 0.1,
        ..Weather::default()
    });
    for number in 0..200 {
        client.send(number, link.addr()).await;
    }
    link.until(|seen| has_settled(&seen.up, 200)).await;
    let up = link.counts().up;
    assert!(up.dropped > 30 && up.duplicated > 5, "{up:?}");
    let arrived = upstream.receive_all(up.delivered as usize).await;
    link.close().await;
    arrived
}

/// Whether that many packets came in, and none of them is on its way any more.
fn has_settled(way: &Passage, packets: u64) -> bool {
    way.packets == packets && way.packets + way.duplicated == way.delivered + way.dropped
}

#[tokio::test]
async fn the_same_seed_drops_and_copies_the_same_packets() {
    let first = survivors(42).await;
    assert_eq!(survivors(42).await, first);
    assert_ne!(survivors(43).await, first);
}

#[tokio::test]
async fn each_direction_has_fates_of_its_own() {
    let (client, link, upstream) = stretch(42).await;
    client.send(0, link.addr()).await;
    let (_, source) = upstream.receive().await;
    upstream.send(0, source).await;
    client.receive().await;
    link.set_weather(Weather {
        loss: 0.5,
        ..Weather::default()
    });
    for number in 1..=100 {
        client.send(number, link.addr()).await;
        upstream.send(number, source).await;
    }
    link.until(|seen| has_settled(&seen.up, 101) && has_settled(&seen.down, 101))
        .await;
    let Counts { up, down, .. } = link.counts();
    let there = upstream.receive_all(up.delivered as usize - 1).await;
    let back = client.receive_all(down.delivered as usize - 1).await;
    assert_ne!(there, back);
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_in_each_direction() {
    let (client, link, upstream) = stretch(1).await;
    link.set_weather(Weather {
        delay: SECOND,
        ..Weather::default()
    });
    let start = Instant::now();
    client.send(1, link.addr()).await;
    let (_, source) = upstream.receive().await;
    let there = start.elapsed();
    upstream.send(2, source).await;
    client.receive().await;
    let back = start.elapsed();
    // The runtime's timers round up to the millisecond.
    let close = |seen: Duration, meant: Duration| seen >= meant && seen < meant + SECOND / 100;
    assert!(close(there, SECOND), "{there:?}");
    assert!(close(back, 2 * SECOND), "{back:?}");
    assert_eq!(
        (link.counts().up.delayed, link.counts().down.delayed),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn held_back_packets_arrive_out_of_order() {
    let (client, link, upstream) = stretch(5).await;
    link.set_weather(Weather {
        delay: SECOND,
        reorder: 0.3,
        ..Weather::default()
    });
    for number in 0..50 {
        client.send(number, link.addr()).await;
    }
    let mut arrived = upstream.receive_all(50).await;
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_packet_that_is_due_earlier_is_not_kept_waiting() {
    let (client, link, upstream) = stretch(1).await;
    let hour = 3_600 * SECOND;
    link.set_weather(Weather {
        delay: hour,
        reorder: 1.0,
        ..Weather::default()
    });
    client.send(1, link.addr()).await;
    link.until(|seen| seen.up.delayed == 1).await;
    tokio::task::yield_now().await;
    link.set_weather(Weather::default());
    client.send(2, link.addr()).await;
    assert_eq!(upstream.receive().await.0, 2);
}

#[tokio::test]
async fn a_black_hole_swallows_both_directions() {
    let (client, link, upstream) = stretch(1).await;
    client.send(1, link.addr()).await;
    let (_, source) = upstream.receive().await;
    link.black_hole(true);
    client.send(2, link.addr()).await;
    upstream.send(3, source).await;
    link.until(|seen| (seen.up.dropped, seen.down.dropped) == (1, 1))
        .await;
    link.black_hole(false);
    client.send(4, link.addr()).await;
    upstream.send(5, source).await;
    assert_eq!(upstream.receive().await.0, 4);
    assert_eq!(client.receive().await.0, 5);
}

#[tokio::test]
async fn a_one_way_black_hole_leaves_the_other_way_open() {
    let (client, link, upstream) = stretch(1).await;
    client.send(1, link.addr()).await;
    let (_, source) = upstream.receive().await;
    link.black_hole_down(true);
    client.send(2, link.addr()).await;
    assert_eq!(upstream.receive().await.0, 2);
    upstream.send(3, source).await;
    link.until(|seen| seen.down.dropped == 1).await;
    link.black_hole_down(false);
    link.black_hole_up(true);
    client.send(4, link.addr()).await;
    link.until(|seen| seen.up.dropped == 1).await;
    upstream.send(5, source).await;
    assert_eq!(client.receive().await.0, 5);
}

#[tokio::test]
async fn a_thaw_releases_what_was_frozen_in_order() {
    let (client, link, upstream) = stretch(1).await;
    link.freeze();
    for number in 0..20 {
        client.send(number, link.addr()).await;
    }
    link.until(|seen| seen.up.packets == 20).await;
    assert_eq!(link.counts().up.delivered, 0);
    link.thaw();
    assert_eq!(upstream.receive_all(20).await, (0..20).collect::<Vec<_>>());
    assert_eq!(link.counts().up.delayed, 20);
}

#[tokio::test]
async fn after_a_rebind_clients_come_from_new_ports() {
    let (client, link, upstream) = stretch(1).await;
    let other = End::bind().await;
    client.send(1, link.addr()).await;
    let (_, before) = upstream.receive().await;
    other.send(1, link.addr()).await;
    let (_, other_before) = upstream.receive().await;
    link.rebind();
    upstream.send(2, before).await;
    upstream.send(2, other_before).await;
    link.until(|seen| seen.down.dropped == 2).await;
    client.send(3, link.addr()).await;
    let (_, after) = upstream.receive().await;
    other.send(3, link.addr()).await;
    let (_, other_after) = upstream.receive().await;
    assert!(![before, other_before].contains(&after));
    assert!(![before, other_before].contains(&other_after));
    upstream.send(4, after).await;
    assert_eq!(client.receive().await, (4, link.addr()));
    assert_eq!(link.counts().mappings, 4);
}

#[tokio::test]
async fn a_mapping_that_was_replaced_leaves_no_task() {
    let (client, link, upstream) = stretch(1).await;
    client.send(1, link.addr()).await;
    upstream.receive().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    for number in 0..20 {
        link.rebind();
        client.send(number, link.addr()).await;
        upstream.receive().await;
    }
    tasks_fall_to(tasks).await;
}

#[tokio::test(start_paused = true)]
async fn a_rebind_loses_what_is_on_its_way_to_the_old_port() {
    let (client, link, upstream) = stretch(1).await;
    client.send(1, link.addr()).await;
    let (_, before) = upstream.receive().await;
    link.set_weather(Weather {
        delay: SECOND,
        ..Weather::default()
    });
    client.send(2, link.addr()).await;
    upstream.send(3, before).await;
    link.until(|seen| (seen.up.packets, seen.down.packets) == (2, 1))
        .await;
    link.rebind();
    client.send(4, link.addr()).await;
    assert_eq!(
        upstream.receive().await,
        (2, before),
        "it had left the client's side already"
    );
    let (number, after) = upstream.receive().await;
    assert_eq!(number, 4);
    assert_ne!(after, before);
    link.until(|seen| seen.down.dropped == 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_mapping_times_out() {
    let (client, link, upstream) = stretch(1).await;
    link.set_nat_timeout(Some(30 * SECOND));
    client.send(1, link.addr()).await;
    let (_, first) = upstream.receive().await;
    advance(29 * SECOND).await;
    client.send(2, link.addr()).await;
    assert_eq!(upstream.receive().await, (2, first));
    advance(29 * SECOND).await;
    upstream.send(3, first).await;
    assert_eq!(client.receive().await.0, 3);
    advance(SECOND).await;
    upstream.send(4, first).await;
    link.until(|seen| seen.down.dropped == 1).await;
    client.send(5, link.addr()).await;
    let (_, second) = upstream.receive().await;
    assert_ne!(second, first);
    upstream.send(6, second).await;
    assert_eq!(client.receive().await.0, 6);
}

#[tokio::test]
async fn another_upstream_takes_over() {
    let (client, link, old) = stretch(1).await;
    client.send(1, link.addr()).await;
    let (_, source) = old.receive().await;
    let new = End::bind().await;
    link.set_upstream(new.addr());
    old.send(2, source).await;
    client.send(3, link.addr()).await;
    assert_eq!(new.receive().await, (3, source));
    new.send(4, source).await;
    assert_eq!(
        client.receive().await.0,
        4,
        "the old upstream is let in no more"
    );
}

#[tokio::test]
async fn an_upstream_may_listen_on_every_address() {
    let client = End::bind().await;
    let mut upstream = End::bind_to("0.0.0.0:0").await.unwrap();
    let link = Link::start(1, upstream.addr()).await.unwrap();
    passes_both_ways(&client, &link, &upstream).await;
    upstream = End::bind_to("0.0.0.0:0").await.unwrap();
    link.set_upstream(upstream.addr());
    passes_both_ways(&client, &link, &upstream).await;
}

#[tokio::test]
async fn an_upstream_may_move_to_another_family_and_back() {
    let (client, link, upstream) = stretch(1).await;
    let Ok(elsewhere) = End::bind_to("[::1]:0").await else {
        return; // A machine without IPv6 has no other family to move to.
    };
    for next in [&upstream, &elsewhere, &upstream] {
        link.set_upstream(next.addr());
        passes_both_ways(&client, &link, next).await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_gone_stops_nobody() {
    let (client, link, gone) = stretch(1).await;
    drop(gone);
    for number in 0..5 {
        client.send(number, link.addr()).await;
        link.until(|seen| seen.up.delivered + seen.up.dropped == u64::from(number) + 1)
            .await;
    }
    let back = End::bind().await;
    link.set_upstream(back.addr());
    client.send(9, link.addr()).await;
    let (number, source) = back.receive().await;
    assert_eq!(number, 9);
    back.send(10, source).await;
    assert_eq!(client.receive().await.0, 10);
}

#[tokio::test]
async fn closing_ends_every_task_and_frees_the_port() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (client, link, upstream) = stretch(1).await;
    client.send(1, link.addr()).await;
    upstream.receive().await;
    assert!(Handle::current().metrics().num_alive_tasks() > before);
    let addr = link.addr();
    link.close().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
    UdpSocket::bind(addr).await.unwrap();
}

#[tokio::test]
async fn dropping_ends_every_task() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (client, link, upstream) = stretch(1).await;
    client.send(1, link.addr()).await;
    upstream.receive().await;
    drop(link);
    tasks_fall_to(before).await;
}

async fn tasks_fall_to(count: usize) {
    while Handle::current().metrics().num_alive_tasks() > count {
        tokio::task::yield_now().await;
    }
}
