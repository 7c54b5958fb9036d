//! Chapter 1: a device asks the allocator, with its certificate, where to connect.

use std::{net::SocketAddr, time::Instant};

use holdfast_certs::Identity;
use holdfast_protocol::{
    allocation::{Allocation, Locate},
    version,
};
use holdfast_transport::{
    credentials::Credentials,
    endpoint,
    exchange::{self},
};

use crate::{
    demo::{
        narrator::{Narrator, milliseconds},
        stage::{Stage, within},
    },
    failure::Failure,
    plan::ANY,
};

pub(crate) async fn tell(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    let phone = stage
        .layout
        .credentials(&Identity::device("alice", "phone")?);
    let phone = Credentials::load(&phone).map_err(|error| Failure::Demo(error.to_string()))?;
    let allocator = stage.fleet.plan().allocator;
    let begun = Instant::now();
    let own = ask(&phone, allocator, None).await?;
    let took = begun.elapsed();
    let Allocation::Relays {
        home: Some(home),
        relays,
    } = own
    else {
        return Err(Failure::Demo(format!("the allocator answers {own:?}")));
    };
    let names: Vec<String> = relays.iter().map(|relay| relay.name.to_string()).collect();
    narrator.check(
        !relays.is_empty(),
        &format!(
            "alice/phone asks {allocator}, and is told: {}",
            names.join(", then ")
        ),
    )?;
    narrator.check(
        names.first() == Some(&home.to_string()),
        &format!("the first of them, {home}, is where alice's account is at home from now on"),
    )?;
    let reachable = relays
        .iter()
        .all(|relay| is_at(stage, relay.name.as_str(), &relay.addresses));
    narrator.check(
        reachable,
        "the addresses are those at which the relays listen",
    )?;
    let foreign = ask(&phone, allocator, Some("bob")).await?;
    narrator.check(
        foreign == Allocation::Denied,
        "where bob is at home it may not ask",
    )?;
    narrator.figure(format!("{} relays", relays.len()));
    narrator.figure(format!("answered in {}", milliseconds(took)));
    if home.as_str() != stage.home {
        std::mem::swap(&mut stage.home, &mut stage.other);
    }
    Ok(())
}

fn is_at(stage: &Stage, name: &str, addresses: &[SocketAddr]) -> bool {
    let post = stage.fleet.post(name);
    post.is_some_and(|post| addresses == [post.listen])
}

/// Asks without the library, which keeps the answer to itself.
async fn ask(
    credentials: &Credentials,
    allocator: SocketAddr,
    account: Option<&str>,
) -> Result<Allocation, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Demo(format!("{allocator}: {error}"));
    let account = account
        .map(str::parse)
        .transpose()
        .map_err(|e| broken(&e))?;
    let endpoint = endpoint::bind_client(ANY).map_err(|error| broken(&error))?;
    let tls = credentials
        .client(version::ALLOCATION)
        .map_err(|error| broken(&error))?;
    let connecting = endpoint::dial(&endpoint, tls, allocator, credentials.trust_domain());
    let connecting = connecting.map_err(|error| broken(&error))?;
    let answer = async {
        let connection = connecting.await.map_err(|error| broken(&error))?;
        let answer = exchange::ask(&connection, &Locate { account }).await;
        answer.map_err(|error| broken(&error))
    };
    within("the allocator answers", answer).await?
}
