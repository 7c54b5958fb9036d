//! Chapter 4: past the announced deadline the relay takes a silent device off the online list.

use std::time::{Duration, Instant};

use holdfast::{Outcome, SendOptions};
use tokio::time::interval;

use crate::{
    demo::{
        narrator::{Narrator, seconds},
        pocket::Pocket,
        stage::{Stage, deadline, done, next, within},
    },
    failure::Failure,
};

/// How late the demo itself may be on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

pub(crate) async fn tell(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    let home = stage.home.clone();
    let pc = stage.open("pc").await?;
    Stage::attached(&pc).await?;
    let phone = Pocket::open(stage.config("phone")?).await?;
    let (phone, relay) = phone
        .awake(async |phone| Stage::attached(phone).await)
        .await?;
    let frozen = Instant::now();
    let online = stage.home_figure("online").await?;
    narrator.check(
        relay? == home && online == 2,
        &format!("{home} has alice/pc and alice/phone on its list; then the phone freezes"),
    )?;
    let text = "are you there?";
    let sent = pc.send("alice/phone", text, SendOptions::default()).await;
    let sent = sent.map_err(Failure::Send)?;
    let stored = within("the relay answers the PC", sent.stored()).await?;
    narrator.check(
        stored == Ok(Outcome::Stored),
        "what the PC sends it now is not called delivered: it is stored",
    )?;

    within("the relay takes the phone off its list", alone(stage)).await??;
    let (took, announced) = (frozen.elapsed(), deadline());
    narrator.check(
        took < announced + SLACK,
        &format!(
            "off the list after {}; the deadline was {announced:?}",
            seconds(took)
        ),
    )?;
    narrator.figure(format!("off the list after {}", seconds(took)));

    let (phone, message) = phone.awake(async |phone| next(phone).await).await?;
    let message = message?;
    narrator.check(
        message.body() == text,
        "the phone thaws, attaches anew, and has the message",
    )?;
    let (_, closed) = phone
        .awake(async |phone| {
            done(message).await?;
            phone.close().await;
            Ok(())
        })
        .await?;
    stage.pc = Some(pc);
    closed
}

/// Waits until one device is on the home relay's list.
async fn alone(stage: &Stage) -> Result<(), Failure> {
    let mut look = interval(Duration::from_millis(20));
    while stage.home_figure("online").await? != 1 {
        look.tick().await;
    }
    Ok(())
}
