//! `holdfast demo`: the whole story on one machine, told step by step, each step checked.
//!
//! - `narrator`: what is printed, and the table at the end;
//! - `stage`: the daemons and the devices, in a folder that goes away afterwards; `cable`: a wire
//!   between devices and a relay that can be pulled; `pocket`: a device that the system freezes;
//!   `figures`: what a relay says of itself; `parcel`: what a person sends;
//! - `asking`, `choosing`, `holding`, `noticing`, `carrying`, `joining`: a file for each chapter.

mod asking;
mod cable;
mod carrying;
mod choosing;
mod figures;
mod holding;
mod joining;
mod narrator;
mod noticing;
mod parcel;
mod pocket;
mod stage;

use clap::Args;

use crate::{
    demo::{narrator::Narrator, stage::Stage},
    failure::Failure,
    stop::Stop,
};

/// Tell the whole story, step by step, and check every step
///
/// Two relays, an allocator and a person's devices, all in this process, with real certificates,
/// sockets and disks, in a folder that is removed afterwards. Takes some ten seconds.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  holdfast demo

Exit codes: 0 when every step held, 1 when one did not.")]
pub(crate) struct Arguments {}

/// A chapter of the story.
#[derive(Clone, Copy, Debug)]
enum Chapter {
    Asking,
    Choosing,
    Holding,
    Noticing,
    Carrying,
    Joining,
}

impl Chapter {
    const ALL: [Self; 6] = [
        Self::Asking,
        Self::Choosing,
        Self::Holding,
        Self::Noticing,
        Self::Carrying,
        Self::Joining,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::Asking => "A device asks the allocator where to connect",
            Self::Choosing => "It picks a relay, and another when that one fails",
            Self::Holding => "It pings its relay, and leaves one that is silent",
            Self::Noticing => "The relay notices a device that is silent",
            Self::Carrying => "Messages arrive at once, or wait until the device is back",
            Self::Joining => "A device that joins later gets the account's state",
        }
    }

    async fn tell(self, stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
        match self {
            Self::Asking => asking::tell(stage, narrator).await,
            Self::Choosing => choosing::tell(stage, narrator).await,
            Self::Holding => holding::tell(stage, narrator).await,
            Self::Noticing => noticing::tell(stage, narrator).await,
            Self::Carrying => carrying::tell(stage, narrator).await,
            Self::Joining => joining::tell(stage, narrator).await,
        }
    }
}

/// Tells the story.
pub(crate) async fn run(_: Arguments) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    tokio::select! {
        outcome = Box::pin(perform()) => outcome,
        () = stop.asked() => Err(Failure::Interrupted),
    }
}

async fn perform() -> Result<(), Failure> {
    let mut narrator = Narrator::default();
    narrator.prologue()?;
    let mut stage = Stage::raise().await?;
    let outcome = story(&mut stage, &mut narrator).await;
    stage.strike().await;
    narrator.summary(&Chapter::ALL.map(Chapter::title))?;
    outcome
}

async fn story(stage: &mut Stage, narrator: &mut Narrator) -> Result<(), Failure> {
    for chapter in Chapter::ALL {
        narrator.begin(chapter.title())?;
        let told = chapter.tell(stage, narrator).await;
        narrator.end(told.as_ref().err())?;
        told?;
    }
    Ok(())
}
