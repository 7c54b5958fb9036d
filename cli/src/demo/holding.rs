//! Chapter 3: while connected it pings its relay; no answer in time, and it chooses anew.

use std::time::Instant;

use holdfast::{Client, State};

use crate::{
    demo::{
        narrator::{Narrator, milliseconds, seconds},
        stage::{Stage, seen, within},
    },
    failure::Failure,
};

pub(crate) async fn tell(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    let (Some(phone), Some(cable)) = (stage.phone.take(), &stage.cable) else {
        return Err(Failure::Demo("the phone is not attached".to_owned()));
    };
    let (home, other) = (&stage.home, &stage.other);
    let observed = || {
        phone
            .observed_address()
            .filter(|address| cable.is_seen_at(*address))
    };
    let address = seen("the relay says where it sees the phone", observed).await?;
    let trip = seen("a ping is answered", || phone.round_trip()).await?;
    narrator.check(
        true,
        &format!(
            "{home} answers its pings in {}, and sees it at {address}, behind the cable",
            milliseconds(trip)
        ),
    )?;
    narrator.figure(format!("round trip {}", milliseconds(trip)));

    let begun = Instant::now();
    cable.pull(true);
    within("the phone notices the silence", detached(&phone)).await?;
    let noticed = seconds(begun.elapsed());
    narrator.check(
        true,
        &format!("the cable to {home} is pulled: it notices the silence ({noticed})"),
    )?;
    let relay = Stage::attached(&phone).await?;
    let took = seconds(begun.elapsed());
    narrator.check(
        &relay == other,
        &format!("and attaches to {other} ({took} without a relay)"),
    )?;
    narrator.figure(format!("silence noticed after {noticed}"));
    cable.pull(false);
    phone.close().await;
    Ok(())
}

async fn detached(client: &Client) {
    let mut states = client.states();
    while matches!(states.current(), State::Attached { .. }) {
        states.changed().await;
    }
}
