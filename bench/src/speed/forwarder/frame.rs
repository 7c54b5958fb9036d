//! What travels: to whom, how long, and so many bytes. The forwarder passes a frame on as it came.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Both numbers before the body.
const HEAD: usize = 8;

/// A frame, whole.
pub(super) fn frame(to: u32, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.put_u32_le(to);
    frame.put_u32_le(length as u32);
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// The body of a frame.
pub(super) fn body(mut frame: Bytes) -> Bytes {
    frame.advance(HEAD.min(frame.len()));
    frame
}

/// Bytes that come in pieces of any size, as frames.
#[derive(Debug, Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    /// More has come.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next frame and to whom it goes, if all of it is there.
    pub(super) fn next(&mut self) -> Option<(u32, Bytes)> {
        let mut head = self.0.get(..HEAD)?;
        let (to, length) = (head.get_u32_le(), head.get_u32_le());
        let whole = HEAD + length as usize;
        (self.0.len() >= whole).then(|| (to, self.0.split_to(whole).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let sent = [frame(3, &[b"hello, ", b"world"]), frame(9, &[])];
        let stream = sent.concat();
        for piece in 1..=stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                frames.extend(bytes);
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(found, [(3, sent[0].clone()), (9, sent[1].clone())]);
        }
        assert_eq!(body(sent[0].clone()), "hello, world");
        assert_eq!(body(sent[1].clone()), "");
    }
}
