//! Attacks on a real relay, and what the others notice of them: nothing. A file for each kind.

mod reload;
mod restart;
