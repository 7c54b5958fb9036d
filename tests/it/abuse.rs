//! Attacks on a real relay, and what the others notice of them: nothing. A file for each kind.

mod flood;
mod greed;
mod reload;
mod restart;
mod sloth;
