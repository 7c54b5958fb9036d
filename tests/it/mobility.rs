//! Devices that come back, move, and sleep.

mod leaving;
mod moving;
mod resuming;
mod sleeping;
