//! sled, made durable: a real sync, group commit, a checked open.
//!
//! What sled 0.34.7 does not promise by itself, and what this crate adds:
//!
//! - a commit that was answered is on the disk, not in the kernel's memory ([`barrier`]);
//! - many commits share one sync, applied in the order they were queued ([`committer`]);
//! - a damaged, truncated or doubly opened store is refused in words ([`opening`], [`engine`],
//!   [`tail`], [`watermark`], [`census`]);
//! - what is deleted is given back to the disk ([`compaction`], [`copy`]), and much at once at the cost of
//!   one row ([`gone`]);
//! - what is read is what was written, or an error; large values never leave sled's log ([`value`],
//!   [`rows`]);
//! - what is left of a damaged store can be had ([`recover`]).
//!
//! Start reading at [`Db`]. Nothing here knows what the rows mean.

mod barrier;
mod batch;
mod census;
mod committer;
mod compaction;
mod copy;
mod db;
mod disk;
mod engine;
mod error;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod generation;
mod gone;
mod group;
mod log;
mod memory;
mod names;
mod opening;
mod priority;
mod queue;
mod readers;
mod recovery;
mod rows;
mod salvage;
mod scan;
mod store;
mod tail;
mod value;
mod watermark;

pub use batch::{Batch, Change, MAX_KEY_BYTES};
pub use committer::Stats;
pub use compaction::Compaction;
pub use db::{Db, Options};
pub use disk::Space;
pub use error::{CloseError, Closed, Damage, OpenError, ReadError};
pub use memory::MemoryRows;
pub use recovery::{RecoverError, Report, examine, exchange, recover};
pub use scan::Scan;
pub use store::{Done, RowsInOrder, Store};
