//! Starting and stopping.

use std::time::Duration;

use holdfast_allocator::{Allocator, BindError, Config, ConfigError, PinError};
use holdfast_protocol::close::CloseCode;
use holdfast_transport::{Ending, credentials::CredentialError};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{Site, config, relay, site::FOR_EVER, start};

async fn refusal(config: Config) -> BindError {
    match Allocator::bind(config).await {
        Ok(_) => panic!("it was bound"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_it_cannot_start_with_is_named() {
    let site = Site::new();
    let span = Config {
        lease: Duration::ZERO,
        ..config(&site)
    };
    let refused = refusal(span).await;
    assert!(matches!(
        refused,
        BindError::Config(ConfigError::Span { key: "lease", .. })
    ));

    let relay = Config {
        credentials: site.files("relay:r1"),
        ..config(&site)
    };
    assert!(matches!(
        refusal(relay.clone()).await,
        BindError::WrongKind(_)
    ));
    assert!(matches!(
        Allocator::check(&relay),
        Err(BindError::WrongKind(_))
    ));

    let mut keyless = config(&site);
    keyless.credentials.key = site.path().join("lost.key");
    let refused = refusal(keyless).await;
    assert!(refused.to_string().contains("lost.key"), "{refused}");

    let mut mixed = config(&site);
    mixed.credentials.key = site.files("relay:r1").key;
    let mismatch = |error| matches!(error, BindError::Credentials(CredentialError::Mismatch(_)));
    assert!(Allocator::check(&mixed).is_err_and(mismatch));
    assert!(mismatch(refusal(mixed).await));
    assert_eq!(Allocator::check(&config(&site)), Ok(()));
}

#[tokio::test]
async fn an_address_or_a_store_in_use_is_named() {
    let site = Site::new();
    let allocator = start(&site).await;
    assert!(matches!(
        refusal(config(&site)).await,
        BindError::Pins(PinError::Open(_))
    ));
    let taken = Config {
        listen: allocator.address(),
        data: site.path().join("other"),
        ..config(&site)
    };
    let refused = refusal(taken).await;
    let address = allocator.address();
    assert!(matches!(refused, BindError::Listen { address: a, .. } if a == address));
    allocator.shutdown().await;
}

#[tokio::test]
async fn everybody_is_told_goodbye() {
    let site = Site::new();
    let allocator = start(&site).await;
    let r1 = relay(&site, &allocator, 1).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    phone.locate(None).await;
    let goodbye = Ending::Closed {
        code: CloseCode::Goodbye,
        reason: "the allocator is stopping".to_owned(),
    };
    allocator.shutdown().await;
    assert_eq!(r1.ending().await, goodbye);
    assert_eq!(phone.ending().await, goodbye);
    // The store is free again.
    start(&site).await.shutdown().await;
}

/// How many tasks are left, once those that are about to end have.
async fn tasks_left(runtime: &Runtime) {
    let gone = async {
        while runtime.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(FOR_EVER, gone).await.unwrap();
}

#[test]
fn no_task_is_left_behind() {
    let runtime = |threads| {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap()
    };
    let (servers, askers) = (runtime(1), runtime(1));
    let site = Site::new();
    let allocator = servers.block_on(start(&site));
    let connected = askers.block_on(async {
        let r1 = relay(&site, &allocator, 1).await;
        let phone = site.asker("device:alice/phone", allocator.address()).await;
        phone.locate(None).await;
        // A request that is begun and never finished.
        let (mut begun, _answer) = phone.connection.open_bi().await.unwrap();
        begun.write_all(&[0x20]).await.unwrap();
        (r1, phone, begun)
    });
    assert!(servers.metrics().num_alive_tasks() > 0);
    servers.block_on(allocator.shutdown());
    askers.block_on(tasks_left(&servers));
    drop(connected);
}
