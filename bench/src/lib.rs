//! What Holdfast does, in figures: each is measured, held against its goal, and told as soon as it is
//! there.
//!
//! - [`figure`]: a figure, its goal, and how both are written;
//! - [`speed`]: what a relay costs its server, and how fast it is.
//!
//! The rest is what Holdfast does when its devices move, sleep and come back:
//!
//! - `nat`: how a device in the background learns its ping interval, in simulated time;
//! - `site`: one relay and devices that reach it over a link of their own; `traffic`: numbered
//!   messages, and what became of them; `couple`: a phone and a computer that exchange them;
//! - `resume`, `migration`, `outage`, `killed`, `background`: a measurement each, over real sockets
//!   and the harness's seeded link;
//! - `crowd`: very many devices; `throng`: in a process of their own; `meter`: how many handshakes a relay begins; `rolling`, `storm`: what
//!   becomes of such a crowd when relays are restarted, and when all of it comes at once;
//! - `plot`: the pictures.
//!
//! The harness of the tests is used as it is, so this runs where it does: on Linux.
#![allow(
    clippy::expect_used,
    reason = "a measurement that cannot be made ends loudly, as the harness does"
)]

mod background;
mod couple;
mod crowd;
pub mod figure;
mod killed;
mod meter;
mod migration;
mod nat;
mod outage;
mod plot;
mod resume;
mod rolling;
mod site;
pub mod speed;
mod storm;
mod throng;
mod traffic;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum;

pub use figure::{Figure, Goal};
use plot::Picture;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough to see that all is well: about a minute.
    Quick,
    /// As the goals have it: about five minutes.
    Full,
}

impl Effort {
    /// One number or the other.
    fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// To be called first thing in `main`: a program that measures starts itself again as the relay that
/// it measures or kills, as very many devices, and as what it compares Holdfast with. `None` if this is
/// none of them.
pub fn play() -> Option<ExitCode> {
    let role = holdfast_tests::rig::role::play();
    role.or_else(throng::play).or_else(speed::play)
}

/// What is measured, each by itself, in this order: the first word of its figures' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// `nat60`, `nat120`, `nat300`.
    Nat,
    /// `resume`.
    Resume,
    /// `migration`.
    Migration,
    /// `outage10`.
    Outage,
    /// `killed`.
    Killed,
    /// `background`.
    Background,
    /// `rolling`.
    Rolling,
    /// `storm`.
    Storm,
}

/// Measures what is wanted of mobile devices; tells each figure when it is there, and says which
/// pictures it has drawn in `folder`, which is made if need be.
///
/// # Errors
/// When a picture cannot be written.
///
/// # Panics
/// When a measurement cannot be made: no port, no disk, or a message that does not come for 30 s.
pub async fn mobility(
    parts: &[Part],
    effort: Effort,
    folder: &Path,
    tell: &mut dyn FnMut(Figure),
) -> io::Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for part in Part::value_variants()
        .iter()
        .filter(|part| parts.contains(part))
    {
        let (figures, picture) = measure(*part, effort).await;
        figures.into_iter().for_each(&mut *tell);
        pictures.extend(picture);
    }
    plot::draw(folder, &pictures)
}

async fn measure(part: Part, effort: Effort) -> (Vec<Figure>, Option<Picture>) {
    match part {
        Part::Nat => {
            let courses = nat::courses();
            (nat::figures(&courses), Some(Picture::Intervals(courses)))
        }
        Part::Resume => (resume::measure(effort).await, None),
        Part::Migration => {
            let (figures, gaps) = migration::measure(effort).await;
            (figures, Some(Picture::Moves(gaps)))
        }
        Part::Outage => (outage::measure(effort).await, None),
        Part::Killed => (killed::measure(effort).await, None),
        Part::Background => (background::measure(effort).await, None),
        Part::Rolling => {
            let (figures, gaps) = rolling::measure(effort).await;
            (figures, Some(Picture::Restarts(gaps)))
        }
        Part::Storm => {
            let (figures, crowds) = storm::measure(effort).await;
            (figures, Some(Picture::Storm(crowds)))
        }
    }
}
