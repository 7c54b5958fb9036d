//! What lies between devices and a relay.

use std::{net::SocketAddr, time::Duration};

use crate::{
    guide::Guide,
    link::{Link, Weather},
    pki::Pki,
};

/// A link to a relay, for devices that know of no other way there.
pub struct Way {
    /// It may be changed at any time.
    pub link: Link,
    /// It names the link in the relay's place for as long as it lives.
    guide: Guide,
}

impl Way {
    /// Every packet to and from the relay takes half a round trip. The seed names the whole run.
    pub async fn open(
        pki: &Pki,
        (name, relay): (&str, SocketAddr),
        (round_trip, seed): (Duration, u64),
    ) -> Self {
        let link = Link::start(seed, relay).await.expect("a free port");
        link.set_weather(Weather {
            delay: round_trip / 2,
            ..Weather::default()
        });
        Self {
            guide: Guide::start(pki, &[(name, link.addr())]).await,
            link,
        }
    }

    /// Whom devices are to ask that are to go this way.
    pub fn allocator(&self) -> SocketAddr {
        self.guide.address()
    }

    /// Waits until its sockets are closed.
    pub async fn close(self) {
        self.link.close().await;
    }
}
