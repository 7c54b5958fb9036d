//! Chapter 6: a device that joins an account later gets the account's current state.

use holdfast::SendOptions;

use crate::{
    demo::{
        narrator::{Narrator, milliseconds},
        parcel,
        stage::{Stage, done, next, within},
    },
    failure::Failure,
};

/// The key that the bookmarks are kept under.
const KEY: &str = "bookmarks";

pub(crate) async fn tell(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    let Some(pc) = stage.pc.clone() else {
        return Err(Failure::Demo("the PC is not attached".to_owned()));
    };
    let retained = SendOptions {
        key: Some(KEY.to_owned()),
        retain: true,
        ..SendOptions::default()
    };
    for version in [1, 2] {
        let sent = pc
            .send("alice", parcel::bookmarks(version), retained.clone())
            .await;
        let stored = within("the relay answers", sent.map_err(Failure::Send)?.stored()).await?;
        stored.map_err(|unsent| Failure::Demo(unsent.to_string()))?;
    }
    narrator.check(
        true,
        "alice/pc keeps bookmarks for the account, and then newer ones",
    )?;

    let begun = std::time::Instant::now();
    let tablet = stage.open("tablet").await?;
    let state = next(&tablet).await?;
    let took = milliseconds(begun.elapsed());
    let is_newest = state.body() == &parcel::bookmarks(2);
    narrator.check(
        is_newest && state.is_retained() && state.key() == Some(KEY),
        &format!("alice/tablet attaches for the first time, and has the newer ones ({took})"),
    )?;
    done(state).await?;
    let sent = pc.send("alice/tablet", "welcome", SendOptions::default());
    sent.await.map_err(Failure::Send)?;
    let message = next(&tablet).await?;
    narrator.check(
        message.body() == "welcome",
        "and not the older ones: what is sent next comes next",
    )?;
    narrator.figure(format!("state {took} after the start"));
    done(message).await?;
    tablet.close().await;
    Ok(())
}
