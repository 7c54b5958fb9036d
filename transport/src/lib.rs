//! QUIC and TLS as every Holdfast program uses them: configuration, identity, frames on streams.
