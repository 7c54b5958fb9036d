//! What sessions and links ask of the router, and who asks.

use holdfast_protocol::id::{Device, Name};

use crate::mail::{
    message::Message,
    online::Session,
    outlet::{Asker, Outlet},
};

/// A device that has attached here.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    /// The session.
    pub(crate) session: Session,
    /// Whose.
    pub(crate) device: Device,
    /// Its memory of what it received.
    pub(crate) inbox: u64,
    /// Its memory of what it sends.
    pub(crate) outbox: u64,
}

/// What sessions and links ask for. Each concerns one account.
#[derive(Debug)]
pub(crate) enum Request {
    /// Take a message in.
    Submit {
        /// The message.
        message: Message,
        /// Who waits for the answer.
        asker: Asker,
    },
    /// Put a device on the online list.
    Attach(Attachment),
    /// Change a list of allowed senders.
    Allow {
        /// Whose list.
        account: Name,
        /// Who.
        sender: Name,
        /// May they?
        allowed: bool,
        /// Who waits for the answer.
        asker: Asker,
    },
}

impl Request {
    /// The account that it concerns.
    pub(crate) fn account(&self) -> &Name {
        match self {
            Self::Submit { message, .. } => message.to.account(),
            Self::Attach(attachment) => &attachment.device.account,
            Self::Allow { account, .. } => account,
        }
    }

    /// Where this request came from.
    pub(crate) fn outlet(&self) -> &Outlet {
        match self {
            Self::Submit { asker, .. } | Self::Allow { asker, .. } => &asker.outlet,
            Self::Attach(attachment) => &attachment.session.outlet,
        }
    }
}
