//! A relay without I/O: for whoever embeds one, and for the simulator.
//!
//! Time is passed in, bytes go in and come out, rows are kept by a [`Store`] of the caller's. Start
//! reading at [`Relay`]. What it is put together from is driven by the daemon's tasks, too:
//!
//! - `request`: what sessions and links ask of the router;
//! - `end`: one end of a connection, without the connection;
//! - `link`: both ends of a link between relays; `links`: those that this relay dials;
//! - `router`: one message: forward it, store it, or pass it on;
//! - `session`: the relay's side of a session; `manners`: what it asks of the device; `allowance`: what
//!   it may still send; `throttle` and `reading`: what is done about one that does not keep to it;
//!   `turns`: fairness between all of them; `doze`: what waits for a device to wake;
//! - `battery`: what waking it costs;
//! - `comeback`: how long a crowd of devices needs to come back, or to go elsewhere;
//! - `tenancy`: what the allocator is told and asked.

pub(crate) mod allowance;
pub(crate) mod battery;
pub(crate) mod comeback;
mod doze;
pub(crate) mod end;
pub(crate) mod link;
pub(crate) mod links;
mod manners;
mod reading;
mod relay;
pub(crate) mod request;
pub(crate) mod router;
pub(crate) mod session;
pub(crate) mod tenancy;
mod throttle;
pub(crate) mod turns;

pub use holdfast_durable::{Batch, Store};

pub use self::manners::Manners;
pub use self::relay::{Conn, Output, Relay, Settings};
pub use crate::mail::{desk::Moment, policy::Rules, room::Load};
