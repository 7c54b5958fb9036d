//! What is fuzzed.

use crate::targets::{credentials, frames, heartbeat, log, pair, relay, session, stored, text};

/// One function that must hold for whatever bytes it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Tries one input, and panics when something does not hold. Tells whether the input meant
    /// something: one that is always refused at its first byte tries nothing.
    pub check: fn(&[u8]) -> bool,
    /// The most memory that [`check`](Self::check) may take at one time, in bytes: so much, and so
    /// many times the input's length.
    pub memory: (u64, u64),
    /// The longest input made for it, in bytes.
    pub longest: usize,
    /// Its share when a number of inputs is divided among all targets: what is cheap gets more.
    pub share: u64,
}

impl Target {
    /// Every target.
    pub const ALL: &[Self] = &[
        Self::decoder("frame", frames::frame),
        Self::decoder("message", frames::message),
        Self::decoder("allocation", frames::allocation),
        Self::decoder("peer", frames::peer),
        Self::decoder("datagram", frames::datagram),
        Self {
            longest: 8 * 1024,
            memory: (64 * 1024, 64),
            share: 60,
            ..Self::decoder("stream", frames::stream)
        },
        Self::decoder("heartbeat", heartbeat::check),
        Self::session("client", session::client),
        Self::session("server", session::server),
        Self::session("pair", pair::check),
        Self {
            share: 20,
            ..Self::session("relay", relay::check)
        },
        Self::decoder("identity", text::identity),
        Self::decoder("names", text::names),
        Self::decoder("rows", stored::mail),
        Self::decoder("durable", stored::durable),
        Self::decoder("device", stored::device),
        Self::file("relay-config", text::relay_config),
        Self::file("allocator-config", text::allocator_config),
        Self {
            // The log is read a segment of 8 MiB at a time.
            memory: (9 * 1024 * 1024, 256),
            longest: 2 * 1024,
            share: 1,
            ..Self::file("log", log::check)
        },
        Self::file("credentials", credentials::load),
        Self::file("certificate", credentials::inspect),
    ];

    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|target| target.name == name)
    }

    /// How much memory an input of `len` bytes may take, in bytes.
    pub fn memory_for(&self, len: usize) -> u64 {
        self.memory.0 + self.memory.1 * len as u64
    }

    /// Small inputs, and nothing but computing. A list of relays takes 48 bytes for each byte of
    /// input, as a relay without addresses has two bytes, and its list grows by doubling.
    const fn decoder(name: &'static str, check: fn(&[u8]) -> bool) -> Self {
        Self {
            name,
            check,
            memory: (8 * 1024, 128),
            longest: 2 * 1024,
            share: 120,
        }
    }

    /// A conversation. Its bodies are large by a number in the input, so most of what it takes is
    /// the script's own; what a half of a session holds is measured by the target itself.
    const fn session(name: &'static str, check: fn(&[u8]) -> bool) -> Self {
        Self {
            name,
            check,
            memory: (256 * 1024 * 1024, 64),
            longest: 4 * 1024,
            share: 30,
        }
    }

    /// A file that is written and loaded.
    const fn file(name: &'static str, check: fn(&[u8]) -> bool) -> Self {
        Self {
            name,
            check,
            memory: (256 * 1024, 256),
            longest: 8 * 1024,
            share: 10,
        }
    }
}
