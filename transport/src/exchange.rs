//! One request and its answer, on a bidirectional stream of their own.

use bytes::Bytes;
use holdfast_protocol::{
    close::Violation,
    frame::{self, Header, RawFrame},
    limits::{MAX_ALLOCATION_PAYLOAD, MAX_HEADER},
};
use quinn::{Connection, ReadToEndError, RecvStream, SendStream};

use crate::Ending;

/// The longest envelope before a payload: a type and a length.
const ENVELOPE: usize = 5;

/// Why an exchange brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The connection ended first.
    #[error(transparent)]
    Ended(#[from] Ending),
    /// The other side said something that is no answer.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// Asks, and waits for the answer.
///
/// # Errors
/// [`ExchangeError`] when the connection ends first, or what comes back is no such frame.
pub async fn ask<Q: Header, A: Header>(
    connection: &Connection,
    request: &Q,
) -> Result<A, ExchangeError> {
    let (mut send, recv) = connection.open_bi().await.map_err(Ending::from)?;
    reply(&mut send, request).await?;
    let frame = read(recv).await?;
    if frame.kind != A::TYPE {
        return Err(Violation::unexpected(format!("{} instead of {}", frame.kind, A::TYPE)).into());
    }
    Ok(frame.header()?)
}

/// Reads the one frame of a request.
///
/// # Errors
/// As [`ask`].
pub async fn read(mut recv: RecvStream) -> Result<RawFrame, ExchangeError> {
    let limit = ENVELOPE + MAX_ALLOCATION_PAYLOAD + MAX_HEADER;
    let bytes = recv.read_to_end(limit).await.map_err(|error| match error {
        ReadToEndError::TooLong => {
            ExchangeError::Violation(Violation::oversized(format!("more than {limit} bytes")))
        }
        ReadToEndError::Read(error) => ExchangeError::Ended(Ending::Lost(error.to_string())),
    })?;
    Ok(RawFrame::whole(Bytes::from(bytes), MAX_ALLOCATION_PAYLOAD)?)
}

/// Writes a frame and finishes the stream.
///
/// # Errors
/// When the connection ended.
pub async fn reply<H: Header>(send: &mut SendStream, header: &H) -> Result<(), ExchangeError> {
    let lost = |error: String| ExchangeError::Ended(Ending::Lost(error));
    send.write_all(&frame::encode(header))
        .await
        .map_err(|error| lost(error.to_string()))?;
    send.finish().map_err(|error| lost(error.to_string()))
}
