//! The one binary a newcomer runs: up, demo, send, listen.
