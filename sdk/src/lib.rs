//! The Holdfast client library.
