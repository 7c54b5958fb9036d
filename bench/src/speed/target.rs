//! Which deployment is measured.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use holdfast::{Config, CredentialFiles};
use holdfast_certs::Identity;
use tokio::net::TcpStream;

use super::{
    Audience, Problem,
    issuer::Issuer,
    server::{Process, Server},
    stack::{Room, Stack},
};

/// Which deployment is measured: one that is started for it, on this machine, unless another is named.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(skip)]
pub struct Target {
    /// An allocator of the deployment to measure; may be given several times. Without one, a relay and an
    /// allocator are started, whose relay limits nobody's rate
    #[arg(long, value_name = "HOST:PORT", requires = "credentials")]
    pub allocator: Vec<SocketAddr>,
    /// The folder of that deployment's authority, which signs certificates of a day for the accounts and
    /// services `bench-…`; that of `holdfast up` is `holdfast-dev/pki`
    #[arg(long, value_name = "FOLDER", requires = "allocator")]
    pub credentials: Option<PathBuf>,
    /// The process of that deployment's relay, if it is one of this machine: its processor time and
    /// memory are measured
    #[arg(long, value_name = "PID", requires = "allocator")]
    pub pid: Option<u32>,
    /// Where that relay's metrics are: what it stores and resumes is measured
    #[arg(long, value_name = "HOST:PORT", requires = "allocator")]
    pub admin: Option<SocketAddr>,
}

impl Target {
    /// Gets ready: starts the stack, if there is to be one.
    pub(crate) async fn reach(
        &self,
        room: Room,
        audience: &mut dyn Audience,
    ) -> Result<Site, Problem> {
        let Some(folder) = &self.credentials else {
            let stack = Stack::start(room).await?;
            let site = Site {
                allocators: vec![stack.allocator()],
                issuer: Issuer::open(stack.authority())?,
                server: stack.server()?,
                stack: Some(stack),
            };
            if let Some(process) = site.server.process {
                audience.note(&format!("the relay is process {process}"));
            }
            return Ok(site);
        };
        if let Some(admin) = self.admin {
            let reached = TcpStream::connect(admin).await;
            reached.map_err(Problem::io(format!("the metrics at {admin}")))?;
        }
        Ok(Site {
            allocators: self.allocator.clone(),
            issuer: Issuer::open(folder)?,
            server: Server {
                process: self.pid.map(Process::new).transpose()?,
                admin: self.admin,
            },
            stack: None,
        })
    }
}

/// What is measured.
pub(crate) struct Site {
    allocators: Vec<SocketAddr>,
    issuer: Issuer,
    /// The relay, as far as it can be looked into.
    pub(crate) server: Server,
    stack: Option<Stack>,
}

impl Site {
    /// What a device of an account is started with, both of them numbered.
    pub(crate) fn device(&self, account: &str, device: &str) -> Result<Config, Problem> {
        self.config(&Identity::device(account, device).expect("names that are short and plain"))
    }

    /// What a service is started with.
    pub(crate) fn service(&self, name: &str) -> Result<Config, Problem> {
        self.config(&Identity::service(name).expect("a name that is short and plain"))
    }

    fn config(&self, identity: &Identity) -> Result<Config, Problem> {
        let files: CredentialFiles = self.issuer.issue(identity)?;
        Ok(Config::new(files, self.allocators.clone()))
    }

    /// Ends what was started.
    pub(crate) async fn leave(self) {
        if let Some(stack) = self.stack {
            stack.stop().await;
        }
    }
}
