//! A relay that was killed, and the devices that do not know it yet.

use std::path::Path;

use holdfast_protocol::{frame, message::Ping};
use holdfast_tests::{
    daemon::Daemon,
    net::{Net, test_limits},
    raw::Raw,
};
use holdfast_transport::Ending;

const RELAY: &str = env!("CARGO_BIN_EXE_relay-under-test");

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_a_killed_relay_hears_from_the_next_run_that_its_connection_is_gone() {
    let net = Net::start(0).await;
    let mut config = net.relay_config("r1", test_limits());
    let first = Daemon::start(Path::new(RELAY), &config).await;
    config.listen = first.address();
    let mut phone = Raw::dial(&net.pki.sender("alice/phone"), first.address())
        .await
        .unwrap();
    phone.greet().await;
    first.kill().await;
    let second = Daemon::start(Path::new(RELAY), &config).await;
    // What was not acknowledged before the kill may have brought the answer already.
    phone.try_datagram(frame::encode(&Ping {
        seq: 0,
        next_within_ms: 60_000,
        echo_after_ms: 0,
        background: false,
    }));
    // Its own timeout is 16 minutes away: only a stateless reset ends it now.
    let reset = Ending::Forgotten;
    assert_eq!(phone.ending().await, reset);
    assert!(second.terminate().await);
    net.stop().await;
}
