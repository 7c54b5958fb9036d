//! Chapter 2: it picks one of the relays; if that fails, another; if all fail, it asks again.

use std::time::Instant;

use holdfast::{Client, State};

use crate::{
    demo::{
        cable::Cable,
        narrator::{Narrator, seconds},
        stage::{Stage, within},
    },
    failure::Failure,
};

pub(crate) async fn tell(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    let (home, other) = (stage.home.clone(), stage.other.clone());
    let phone = stage.open("phone").await?;
    let relay = Stage::attached(&phone).await?;
    narrator.check(
        relay == home,
        &format!("alice/phone attaches to {home}, her home"),
    )?;
    phone.close().await;

    stage.fleet.stop_relay(&home).await;
    let begun = Instant::now();
    let phone = stage.open("phone").await?;
    let relay = Stage::attached(&phone).await?;
    let took = seconds(begun.elapsed());
    narrator.check(
        relay == other,
        &format!("{home} is stopped: it tries {home}, then takes {other} ({took})"),
    )?;
    narrator.figure(format!("second relay after {took}"));

    stage.fleet.stop_relay(&other).await;
    within("the phone runs out of relays", exhausted(&phone)).await?;
    narrator.check(
        true,
        &format!("{other} is stopped, too: it asks the allocator again and again"),
    )?;

    let begun = Instant::now();
    move_home(stage).await?;
    let relay = Stage::attached(&phone).await?;
    let took = seconds(begun.elapsed());
    narrator.check(
        relay == home,
        &format!(
            "{home} is back at a new address, which only the allocator knows: attached ({took})"
        ),
    )?;
    stage.fleet.start_relay(&other).await?;
    stage.fleet.ready().await?;
    stage.phone = Some(phone);
    Ok(())
}

/// Waits until every relay and every allocator's answer has been tried in vain.
async fn exhausted(client: &Client) {
    let mut states = client.states();
    while !matches!(states.current(), State::Waiting { .. }) {
        states.changed().await;
    }
}

/// Starts the home relay elsewhere, behind a cable.
async fn move_home(stage: &mut Stage) -> Result<(), Failure> {
    let cable = Cable::lay().await.map_err(Failure::file("a cable"))?;
    stage.fleet.move_relay(&stage.home, cable.address());
    stage.fleet.start_relay(&stage.home).await?;
    if let Some(post) = stage.fleet.post(&stage.home) {
        cable.lead_to(post.listen);
    }
    stage.cable = Some(cable);
    Ok(())
}
