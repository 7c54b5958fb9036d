//! What encoding and decoding cost: `cargo bench -p holdfast-protocol`.

#![allow(
    clippy::unwrap_used,
    reason = "what fails in a measurement should end it"
)]

use std::hint::black_box;

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use holdfast_protocol::{
    frame::{FrameReader, encode_with_body},
    limits::MAX_CONTROL_PAYLOAD,
    message::{Options, Submit},
};

/// How large the bodies are, in bytes.
const SIZES: [usize; 3] = [0, 256, 4096];

/// Frames that come in one piece.
const FRAMES: usize = 64;

fn main() {
    divan::main();
}

fn submit() -> Submit {
    Submit {
        seq: 70_000,
        to: "alice/phone".parse().unwrap(),
        options: Options::default(),
        again: false,
    }
}

#[divan::bench(args = SIZES)]
fn encode(bencher: Bencher<'_, '_>, size: usize) {
    let (submit, body) = (submit(), Bytes::from(vec![7; size]));
    bencher
        .counter(ItemsCount::new(1usize))
        .bench(|| encode_with_body(black_box(&submit), body.clone()));
}

#[divan::bench(args = SIZES)]
fn decode(bencher: Bencher<'_, '_>, size: usize) {
    let frame = encode_with_body(&submit(), Bytes::from(vec![7; size])).concat();
    let stream = Bytes::from(frame.repeat(FRAMES));
    bencher.counter(ItemsCount::new(FRAMES)).bench(|| {
        let mut reader = FrameReader::new(MAX_CONTROL_PAYLOAD);
        reader.push(black_box(stream.clone()));
        while let Ok(Some(frame)) = reader.next() {
            black_box(frame.decode::<Submit>().unwrap());
        }
    });
}
