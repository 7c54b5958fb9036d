//! What Holdfast does when its devices move, sleep and come back, in figures: each is measured, held
//! against its goal, and told as soon as it is there.
//!
//! - [`figure`]: a figure, its goal, and how both are written;
//! - `nat`: how a device in the background learns its ping interval, in simulated time;
//! - `site`: one relay and devices that reach it over a link of their own; `traffic`: numbered
//!   messages, and what became of them; `couple`: a phone and a computer that exchange them;
//! - `resume`, `migration`, `outage`, `killed`, `background`: a measurement each, over real sockets
//!   and the harness's seeded link;
//! - `plot`: the pictures.
//!
//! The harness of the tests is used as it is, so this runs where it does: on Linux.
#![allow(
    clippy::expect_used,
    reason = "a measurement that cannot be made ends loudly, as the harness does"
)]

mod background;
mod couple;
pub mod figure;
mod killed;
mod migration;
mod nat;
mod outage;
mod plot;
mod resume;
mod site;
mod traffic;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use figure::{Figure, Goal};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough to see that all is well: about half a minute.
    Quick,
    /// As the goals have it: one and a half minutes.
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
/// it kills. `None` if this is not that relay.
pub fn play() -> Option<ExitCode> {
    holdfast_tests::rig::role::play()
}

/// Measures everything about mobile devices; tells each figure when it is there, and says which
/// pictures it has drawn in `folder`, which is made if need be.
///
/// # Errors
/// When a picture cannot be written.
///
/// # Panics
/// When a measurement cannot be made: no port, no disk, or a message that does not come for 30 s.
pub async fn mobility(
    effort: Effort,
    folder: &Path,
    tell: &mut dyn FnMut(Figure),
) -> io::Result<Vec<PathBuf>> {
    let mut all = |figures: Vec<Figure>| figures.into_iter().for_each(&mut *tell);
    let courses = nat::courses();
    all(nat::figures(&courses));
    all(resume::measure(effort).await);
    let (figures, gaps) = migration::measure(effort).await;
    all(figures);
    all(outage::measure(effort).await);
    all(killed::measure(effort).await);
    all(background::measure(effort).await);
    plot::draw(folder, &courses, &gaps)
}
