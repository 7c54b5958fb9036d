//! The Holdfast client library: for phones, desktops and backends.
//!
//! A [`Client`] keeps one connection to a relay, finds another relay whenever it loses one, and holds
//! what an app sends until a relay has it. What arrives is shown once, in order per sender.
//!
//! ```no_run
//! use holdfast::{Client, Config, CredentialFiles, SendOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = CredentialFiles {
//!     certificate: "device/alice/phone.pem".into(),
//!     key: "device/alice/phone.key".into(),
//!     authority: "authority.pem".into(),
//!     revoked: None,
//! };
//! let client = Client::connect(Config {
//!     directory: Some("holdfast".into()),
//!     ..Config::new(credentials, vec!["127.0.0.1:4400".parse()?])
//! })
//! .await?;
//!
//! let sent = client.send("alice/pc", "hello", SendOptions::default()).await?;
//! println!("{}: {:?}", sent.id(), sent.stored().await?);
//!
//! while let Some(message) = client.next().await {
//!     println!("{}: {:?}", message.sender(), message.body());
//!     message.done().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/chat.rs` is a whole program.
//!
//! # How it is made
//!
//! The handle ([`Client`]) talks to one driver task and one thread that writes to the disk; without a
//! directory there is none. The driver decides nothing: it carries what happens to an engine, and does
//! what the engine says.
//!
//! ```text
//!          send                  committer ── storage (outbox, marks, logbook)
//!   app ─ client ─────────────────┘   │
//!    ^      │ done, allow, close      │ on disk
//!    │      v                         v
//!    └── counter <──────────────── driver ─── dial, wire       what happens
//!                                     │
//!                                   core ──── engine           what to do (pure)
//! ```

mod client;
mod committer;
mod config;
#[doc(hidden)]
pub mod core;
mod counter;
mod dial;
mod driver;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod receipt;
mod received;
mod state;
mod storage;

pub use client::{Client, SendOptions};
pub use config::{Config, Retry};
pub use error::{Closed, ConnectError, Detached, SendError, Unsent};
pub use holdfast_protocol::{
    heartbeat::PingSchedule,
    id::{Device, InvalidId, Lane, MessageId, Name, Recipient, Sender},
    message::{Priority, Refusal},
    radio::{RadioUse, RadioUses},
};
pub use holdfast_transport::credentials::{CredentialError, CredentialFiles};
pub use receipt::{Outcome, Sent};
pub use received::{Event, Received};
pub use state::{State, States};

/// The example in the README is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
