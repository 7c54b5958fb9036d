//! Chapter 5: a message for an online device is forwarded; for an offline one it is stored,
//! outlives the relay's restart, and is sent when the device is back. Both directions.

use std::time::Instant;

use bytes::Bytes;
use holdfast::{Client, Outcome, SendOptions, Sent};

use crate::{
    demo::{
        narrator::{Narrator, Progress, milliseconds, seconds},
        parcel::{self, Expected},
        stage::{Stage, done, next, within},
    },
    failure::Failure,
};

/// How many messages are sent one after the other, for the figures.
const TIMED: usize = 50;

pub(crate) async fn tell(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    let phone = stage.open("phone").await?;
    Stage::attached(&phone).await?;
    let Some(pc) = stage.pc.take() else {
        return Err(Failure::Demo("the PC is not attached".to_owned()));
    };
    latency(&pc, &phone, narrator).await?;
    forward(stage, (&pc, &phone), 1, narrator).await?;
    forward(stage, (&phone, &pc), 2, narrator).await?;
    let phone = hold(stage, &pc, ("phone", phone), 3, narrator).await?;
    let pc = hold(stage, &phone, ("pc", pc), 4, narrator).await?;
    (stage.pc, stage.phone) = (Some(pc), Some(phone));
    Ok(())
}

/// One message at a time: from `send` to the other app's hands.
async fn latency(from: &Client, to: &Client, narrator: &mut Narrator) -> Result<(), Failure> {
    let mut spans = Vec::with_capacity(TIMED);
    let address = to.identity().to_string();
    for number in 0..TIMED {
        let (text, begun) = (format!("tick {number}"), Instant::now());
        let sent = from.send(&address, text.clone(), SendOptions::default());
        sent.await.map_err(Failure::Send)?;
        let message = next(to).await?;
        spans.push(begun.elapsed());
        if message.body() != text.as_bytes() {
            return Err(Failure::Demo(format!(
                "{:?} instead of {text}",
                message.body()
            )));
        }
        done(message).await?;
    }
    spans.sort();
    let (middle, slow) = (spans[TIMED / 2], spans[TIMED * 95 / 100]);
    let (middle, slow) = (milliseconds(middle), milliseconds(slow));
    let figure = format!("p50 {middle}, p95 {slow}");
    let told = format!("{TIMED} messages, one at a time: from `send` to the other app {figure}");
    narrator.check(true, &told)?;
    narrator.figure(figure);
    Ok(())
}

/// Both are there.
async fn forward(
    stage: &Stage,
    (from, to): (&Client, &Client),
    seed: u64,
    narrator: &mut Narrator,
) -> Result<(), Failure> {
    let mail = parcel::mail(seed);
    let (before, begun) = (stage.home_figure("forwarded_total").await?, Instant::now());
    let (sent, received) = tokio::join!(send(from, to, &mail, true), receive(to, &mail));
    let (sent, ()) = (sent?, received?);
    let outcomes = outcomes(&sent, true).await?;
    let took = seconds(begun.elapsed());
    let unwritten = stage.home_figure("forwarded_total").await? - before;
    let (from, to, burst) = (from.identity(), to.identity(), parcel::BURST);
    narrator.check(
        outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::Delivered),
        &format!(
            "{from} to {to}: bookmarks, a photo, {burst} short messages; all delivered, in order \
             ({took}; {unwritten} of them without a write)"
        ),
    )
}

/// The recipient is away, and the relay stops and starts, before the recipient is back.
async fn hold(
    stage: &mut Stage,
    from: &Client,
    (device, to): (&str, Client),
    seed: u64,
    narrator: &mut Narrator,
) -> Result<Client, Failure> {
    let (home, mail) = (stage.home.clone(), parcel::mail(seed));
    to.close().await;
    let sent = send(from, &to, &mail, false).await?;
    let outcomes = outcomes(&sent, false).await?;
    narrator.check(
        outcomes.iter().all(|outcome| *outcome == Outcome::Stored),
        &format!(
            "alice/{device} is away: the same from {}; all stored",
            from.identity()
        ),
    )?;
    stage.fleet.stop_relay(&home).await;
    stage.fleet.start_relay(&home).await?;
    stage.fleet.ready().await?;
    let begun = Instant::now();
    let to = stage.open(device).await?;
    receive(&to, &mail).await?;
    let took = begun.elapsed();
    narrator.check(
        true,
        &format!(
            "{home} restarts, alice/{device} is back: all of it, in order ({})",
            seconds(took)
        ),
    )?;
    once(from, &to, seed, narrator).await?;
    if device == "phone" {
        let rate = mail.len() as f64 / took.as_secs_f64();
        narrator.figure(format!("drained at {rate:.0}/s"));
    }
    Ok(to)
}

/// What is sent now is what comes next: nothing came twice.
async fn once(
    from: &Client,
    to: &Client,
    seed: u64,
    narrator: &mut Narrator,
) -> Result<(), Failure> {
    let last = [Bytes::from("that was all"), parcel::photo(seed + 100)];
    let (sent, received) = tokio::join!(send(from, to, &last, false), receive(to, &last));
    sent?;
    received?;
    narrator.check(true, "and none of it twice: what is sent next comes next")
}

async fn send(
    from: &Client,
    to: &Client,
    mail: &[Bytes],
    notify: bool,
) -> Result<Vec<Sent>, Failure> {
    let to = to.identity().to_string();
    let mut sent = Vec::with_capacity(mail.len());
    for body in mail {
        let options = SendOptions {
            notify,
            ..SendOptions::default()
        };
        let sending = from.send(&to, body.clone(), options);
        sent.push(sending.await.map_err(Failure::Send)?);
    }
    Ok(sent)
}

async fn outcomes(sent: &[Sent], notify: bool) -> Result<Vec<Outcome>, Failure> {
    let progress = Progress::new("receipts", sent.len());
    let mut outcomes = Vec::with_capacity(sent.len());
    for one in sent {
        let answer = async {
            if notify {
                one.delivered().await
            } else {
                one.stored().await
            }
        };
        let outcome = within("the relay answers", answer).await?;
        outcomes.push(outcome.map_err(|unsent| Failure::Demo(unsent.to_string()))?);
        progress.step();
    }
    Ok(outcomes)
}

/// Receives exactly this.
async fn receive(to: &Client, mail: &[Bytes]) -> Result<(), Failure> {
    let progress = Progress::new("received", mail.len());
    let mut expected = Expected::new(mail);
    while !expected.is_complete() {
        let message = next(to).await?;
        expected.take(&message)?;
        done(message).await?;
        progress.step();
    }
    Ok(())
}
