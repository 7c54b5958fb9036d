//! Devices that come back, move, and sleep.

mod moving;
mod resuming;
mod sleeping;
