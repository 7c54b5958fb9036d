//! A phone on the move and a computer at home, that write to each other.

use std::time::{Duration, Instant};

use holdfast::Client;
use holdfast_tests::net::Net;

use crate::{
    site::{self, Mobile, Place, RELAY},
    traffic::{Fates, Flow, Load},
};

/// How long it took until the next message, to the phone and from it.
pub(crate) struct Gaps {
    pub(crate) down: Duration,
    pub(crate) up: Duration,
}

/// Both, of one account.
pub(crate) struct Couple {
    phone: Mobile,
    computer: Client,
    down: Flow,
    up: Flow,
}

impl Couple {
    /// They begin to write at once.
    pub(crate) async fn start(net: &Net, account: &str, place: &Place, load: Load) -> Self {
        let names = ["phone", "pc"].map(|device| format!("{account}/{device}"));
        let relay = net.relay_address(RELAY);
        let phone = Mobile::start(&net.pki, &names[0], relay, place).await;
        let computer = site::at_home(net, &names[1]).await;
        Self {
            down: Flow::start(&computer, &names[0], &phone.client, load),
            up: Flow::start(&phone.client, &names[1], &computer, load),
            phone,
            computer,
        }
    }

    /// The gaps from now to whichever message comes.
    pub(crate) async fn flow(&self) -> Gaps {
        self.gaps(Instant::now(), (0, 0)).await
    }

    /// The phone changes its network: the gaps from then to a message that was on its way, or a
    /// later one.
    pub(crate) async fn change_network(&self) -> Gaps {
        let newest = (self.down.newest(), self.up.newest());
        let since = Instant::now();
        self.phone.change_network();
        self.gaps(since, newest).await
    }

    /// The phone has no network for a while, and then another: the gaps from then to whichever
    /// message comes.
    pub(crate) async fn lose_network(&self, outage: Duration) -> Gaps {
        self.phone.way.link.black_hole(true);
        // An outage of this length is what is measured.
        tokio::time::sleep(outage).await;
        let since = Instant::now();
        self.phone.way.link.black_hole(false);
        self.phone.change_network();
        self.gaps(since, (0, 0)).await
    }

    /// Until a message comes with this number or a higher one, in each direction.
    async fn gaps(&self, since: Instant, (down, up): (u64, u64)) -> Gaps {
        let (down, up) = tokio::join!(self.down.gap(down, since), self.up.gap(up, since));
        Gaps { down, up }
    }

    /// They write no more; what came of all they wrote.
    pub(crate) async fn stop(self) -> Fates {
        let fates = self.down.finish().await + self.up.finish().await;
        self.phone.stop().await;
        self.computer.close().await;
        fates
    }
}
