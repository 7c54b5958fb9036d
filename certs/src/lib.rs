//! Holdfast certificate tooling: authority, identities, revocation.
