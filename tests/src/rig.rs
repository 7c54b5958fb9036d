//! The rigs: real processes under load, killed, cut off from power, or given a damaged disk, and then
//! held to every word they gave.
//!
//! - [`ledger`]: what was promised and what came: the one book of all rigs;
//! - [`crowd`]: the load: clients that send all the time ([`sender`]), and clients that come to fetch;
//! - [`scene`]: an allocator and a crowd, from the first message to the last;
//! - [`role`]: how a rig starts itself again as a relay, an allocator or a device;
//! - [`disk`]: a file system of the rig's own, whose power can be cut;
//! - [`powercut`]: power cuts;
//! - [`kill`]: kills, of relays, devices and allocators; [`device`] is what a
//!   killed device was doing, and [`journal`] what is left of it;
//! - [`abuse`]: what the others notice of an attack;
//! - [`damage`]: stores that are not as a relay left them;
//! - [`bad_disk`]: disks that fail, and disks that are full.
//!
//! Each rig is a command, `cargo run --release -p holdfast-tests --bin NAME`, and a test of the
//! ordinary run that runs the command. A seed decides what is sent, to whom, and when the blow falls;
//! what the machine does meanwhile differs from run to run.

pub mod abuse;
pub mod bad_disk;
pub mod crowd;
pub mod damage;
pub mod device;
pub mod disk;
pub mod inquest;
pub mod journal;
pub mod kill;
pub mod ledger;
pub mod powercut;
pub mod role;
pub mod scene;
pub mod sender;
