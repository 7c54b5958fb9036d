//! Which daemons there are, and where they listen: the file `holdfast.toml`.
//!
//! Ports are chosen by the system the first time and kept from then on, so that devices find again
//! what they remember.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{failure::Failure, layout::Layout, output};

/// Any free port of this machine's loopback address.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const PREFACE: &str = "# Written by `holdfast up`: which daemons there are, and where they listen.
# Devices find the allocator here. A port that is taken when `up` starts is exchanged for another.

";

/// Which daemons there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Where the allocator listens (UDP).
    pub(crate) allocator: SocketAddr,
    /// The relays. Devices need none: in a folder made by hand they may be left out.
    #[serde(rename = "relay", default)]
    pub(crate) relays: Vec<Post>,
}

/// One relay's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Post {
    /// The relay's name.
    pub(crate) name: String,
    /// Where devices connect (UDP).
    pub(crate) listen: SocketAddr,
    /// Where `/health` and `/metrics` are served (TCP).
    pub(crate) admin: SocketAddr,
    /// Where devices are told to connect, if not where the relay listens.
    #[serde(skip)]
    pub(crate) advertise: Option<SocketAddr>,
}

impl Plan {
    /// One allocator and `relays` relays, `r1` and so on, anywhere.
    pub(crate) fn new(relays: usize) -> Self {
        let mut plan = Self {
            allocator: ANY,
            relays: Vec::new(),
        };
        plan.grow(relays);
        plan
    }

    /// Adds relays until there are as many.
    pub(crate) fn grow(&mut self, relays: usize) {
        for number in self.relays.len() + 1..=relays {
            self.relays.push(Post {
                name: format!("r{number}"),
                listen: ANY,
                admin: ANY,
                advertise: None,
            });
        }
    }

    /// Reads the file.
    pub(crate) fn load(layout: &Layout) -> Result<Self, Failure> {
        Self::find(layout)?.ok_or_else(|| Failure::NothingHere {
            dir: layout.dir().to_owned(),
            up: format!("{} up{}", output::program(), layout.flag()),
        })
    }

    /// Reads the file, if it is there.
    pub(crate) fn find(layout: &Layout) -> Result<Option<Self>, Failure> {
        let path = layout.plan();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Failure::File { path, source }),
        };
        let plan = toml::from_str(&text).map_err(|error| Failure::Plan {
            path,
            why: error.to_string(),
        })?;
        Ok(Some(plan))
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn save(&self, layout: &Layout) -> Result<(), Failure> {
        let path = layout.plan();
        let text = toml::to_string(self).map_err(|error| Failure::Plan {
            path: path.clone(),
            why: error.to_string(),
        })?;
        replace(&path, &format!("{PREFACE}{text}")).map_err(Failure::file(path))
    }

    /// The same, with any port in place of those that somebody else has taken.
    pub(crate) fn with_free_ports(mut self) -> Self {
        self.allocator = free_udp(self.allocator);
        for post in &mut self.relays {
            post.listen = free_udp(post.listen);
            post.admin = free_tcp(post.admin);
        }
        self
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let next = path.with_extension("toml.next");
    fs::write(&next, text)?;
    fs::File::open(&next)?.sync_all()?;
    fs::rename(next, path)
}

fn free_udp(address: SocketAddr) -> SocketAddr {
    UdpSocket::bind(address).map_or(anywhere(address), |_| address)
}

fn free_tcp(address: SocketAddr) -> SocketAddr {
    TcpListener::bind(address).map_or(anywhere(address), |_| address)
}

fn anywhere(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        (dir, layout)
    }

    #[test]
    fn what_is_written_is_read() {
        let (_dir, layout) = folder();
        assert_eq!(Plan::find(&layout).unwrap(), None);
        let plan = Plan::new(2);
        plan.save(&layout).unwrap();
        assert_eq!(Plan::load(&layout).unwrap(), plan);
    }

    #[test]
    fn growing_moves_nobody() {
        let mut plan = Plan::new(2);
        let before = plan.relays.clone();
        plan.grow(1);
        assert_eq!(plan.relays, before);
        plan.grow(3);
        assert_eq!(plan.relays[..2], before);
        assert_eq!(plan.relays[2].name, "r3");
    }

    #[test]
    fn a_taken_port_is_exchanged_and_a_free_one_kept() {
        let (udp, tcp) = (
            UdpSocket::bind(ANY).unwrap(),
            TcpListener::bind(ANY).unwrap(),
        );
        let mut plan = Plan::new(1);
        plan.relays[0].listen = udp.local_addr().unwrap();
        plan.relays[0].admin = tcp.local_addr().unwrap();
        let post = &plan.clone().with_free_ports().relays[0];
        assert_eq!((post.listen, post.admin), (ANY, ANY));
        drop((udp, tcp));
        assert_eq!(plan.clone().with_free_ports(), plan);
    }

    #[test]
    fn a_folder_made_by_hand_needs_to_name_the_allocator_alone() {
        let (_dir, layout) = folder();
        fs::write(layout.plan(), "allocator = \"127.0.0.4:4400\"").unwrap();
        let plan = Plan::load(&layout).unwrap();
        assert_eq!(plan.allocator, "127.0.0.4:4400".parse().unwrap());
        assert_eq!(plan.relays, []);
    }

    #[test]
    fn a_damaged_file_and_a_missing_one_are_named() {
        let (_dir, layout) = folder();
        let error = Plan::load(&layout).unwrap_err();
        assert!(matches!(error, Failure::NothingHere { .. }));
        fs::write(layout.plan(), "allocator = 7").unwrap();
        let error = Plan::load(&layout).unwrap_err().to_string();
        assert!(error.contains("holdfast.toml"), "{error}");
    }
}
