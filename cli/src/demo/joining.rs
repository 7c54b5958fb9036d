//! Chapter 6: a device that joins an account later gets the account's current state.

use std::time::Instant;

use holdfast::{Client, SendOptions};

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
    let (Some(pc), Some(phone)) = (&stage.pc, &stage.phone) else {
        return Err(Failure::Demo(
            "the PC and the phone are not attached".to_owned(),
        ));
    };
    for version in [1, 2] {
        keep(pc, phone, version).await?;
    }
    narrator.check(
        true,
        "alice/pc keeps bookmarks for the account, and then newer ones: alice/phone has both",
    )?;

    let begun = Instant::now();
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

/// The PC sends bookmarks to the account, and the phone, which is there, has them.
async fn keep(pc: &Client, phone: &Client, version: u32) -> Result<(), Failure> {
    let retained = SendOptions {
        key: Some(KEY.to_owned()),
        retain: true,
        ..SendOptions::default()
    };
    let bookmarks = parcel::bookmarks(version);
    let sent = pc.send("alice", bookmarks.clone(), retained).await;
    let sent = sent.map_err(Failure::Send)?;
    let message = next(phone).await?;
    if message.body() != &bookmarks {
        return Err(Failure::Demo(format!("{} is something else", message.id())));
    }
    done(message).await?;
    let stored = within("the relay answers", sent.stored()).await?;
    stored.map_err(|unsent| Failure::Demo(unsent.to_string()))?;
    Ok(())
}
