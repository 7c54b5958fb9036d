//! The targets, by what they are fed.

pub(crate) mod credentials;
pub(crate) mod frames;
pub(crate) mod heartbeat;
pub(crate) mod held;
pub(crate) mod log;
pub(crate) mod pair;
pub(crate) mod relay;
pub(crate) mod session;
pub(crate) mod stored;
pub(crate) mod text;
