//! Brings the router its time, and what the store has finished.

use std::time::Duration;

use crate::{breath::Breath, clock::Clock, core::router::Router};

/// Has the router work whenever there is something to, until it is dropped.
pub(crate) async fn run(router: Router, clock: Clock) {
    // One timer for as long as this runs, set anew each time round.
    let (bell, timer) = (router.bell(), tokio::time::sleep(Duration::ZERO));
    tokio::pin!(timer);
    let mut breath = Breath::of(1);
    loop {
        timer.as_mut().reset(clock.instant(router.deadline()));
        tokio::select! {
            () = bell.rung() => {}
            () = &mut timer => {}
        }
        router.work(clock.now());
        breath.spend().await;
    }
}
