//! Each message beside its bytes. The same bytes stand in PROTOCOL.md, where people read them who
//! write a client in another language; so the check of one is the check of both.

use std::fmt::Debug;

use bytes::Bytes;

use crate::{
    close::Violation,
    frame::{Encoded, FrameType, Header, RawFrame, encode_with_body},
    limits::MAX_CONTROL_PAYLOAD,
};

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

/// Checks that `header` and `body` are `hex` on the wire, both ways, and that PROTOCOL.md says so.
pub(crate) fn golden<H: Header + PartialEq + Debug>(header: &H, body: &'static str, hex: &str) {
    let wire = encode_with_body(header, Bytes::from_static(body.as_bytes())).concat();
    assert_eq!(to_hex(&wire), hex, "{header:?}");
    let frame = RawFrame::whole(from_hex(hex), MAX_CONTROL_PAYLOAD).unwrap();
    assert_eq!(frame.kind, H::TYPE);
    let (decoded, rest) = frame.decode::<H>().unwrap();
    assert_eq!((&decoded, &rest[..]), (header, body.as_bytes()));
    let documented = documented().any(|example| example == hex);
    assert!(documented, "PROTOCOL.md lacks {hex}, which is {header:?}");
}

/// Decodes a frame of any known type, and encodes what came out.
pub(crate) fn reencode(frame: &RawFrame) -> Result<Encoded, Violation> {
    macro_rules! by_type {
        ($($module:ident: $($name:ident)*;)*) => {
            match frame.kind {
                $($(FrameType::$name => frame
                    .decode::<crate::$module::$name>()
                    .map(|(header, body)| encode_with_body(&header, body)),)*)*
                FrameType::Unknown(_) => Err(Violation::unexpected("unknown")),
            }
        };
    }
    by_type! {
        message: Hello Welcome Submit Receipt Deliver Ack Gap GoAway Allow Allowed Ping Pong;
        allocation: Locate Allocation Lease Leased;
        peer: Pass Passed Attach Detach PeerDeliver PeerAck PeerGap Evict PeerAllow;
    }
}

/// The examples of PROTOCOL.md: its blocks marked `hex`, without their comments and spaces.
fn documented() -> impl Iterator<Item = String> {
    DOCUMENT.split("```hex\n").skip(1).map(|rest| {
        let block = rest.split("```").next().unwrap_or_default();
        let bytes = block.lines().flat_map(|line| line.split('#').next());
        bytes.flat_map(str::split_whitespace).collect()
    })
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn every_example_of_the_document_is_a_frame_as_we_write_it() {
    let mut examples = 0;
    for hex in documented() {
        let frame = RawFrame::whole(from_hex(&hex), MAX_CONTROL_PAYLOAD);
        let again = frame
            .and_then(|frame| reencode(&frame))
            .map(|it| it.concat());
        assert_eq!(again.as_deref().map(to_hex), Ok(hex));
        examples += 1;
    }
    assert!(examples > 0, "no example was found");
}
