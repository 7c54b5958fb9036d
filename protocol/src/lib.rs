//! The Holdfast wire, and both halves of a session as state machines without I/O.
