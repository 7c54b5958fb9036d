//! How an input is made: a file of the corpus, and a few accidents.
//!
//! Nothing is learnt from run to run: an input is a function of the seed, the target and its number,
//! so any can be made again.

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

/// Numbers at which something changes, as they are written in a varint: no, one, the ends of a byte, of
/// a window, of two bytes, of a small body, of 32 bits.
const TURNING_POINTS: &[u64] = &[
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    257,
    4096,
    16_383,
    16_384,
    16_385,
    20_480,
    65_535,
    65_536,
    600_000,
    600_001,
    1_048_576,
    2_147_483_647,
    4_294_967_295,
    4_294_967_296,
    u64::MAX,
];

/// The makings of one target's inputs.
#[derive(Debug)]
pub struct Maker<'a> {
    seed: u64,
    corpus: &'a [Vec<u8>],
    longest: usize,
}

impl<'a> Maker<'a> {
    /// Inputs of at most `longest` bytes, made from `corpus`. `name` keeps the inputs of two
    /// targets apart.
    pub fn new(seed: u64, name: &str, corpus: &'a [Vec<u8>], longest: usize) -> Self {
        let seed = seed ^ u64::from(crc32fast::hash(name.as_bytes())) << 32;
        Self {
            seed,
            corpus,
            longest,
        }
    }

    /// The input of this number: first the corpus as it is, then what is made from it.
    pub fn input(&self, number: u64, input: &mut Vec<u8>) {
        input.clear();
        let whole = usize::try_from(number).ok();
        if let Some(kept) = whole.and_then(|number| self.corpus.get(number)) {
            input.extend_from_slice(kept);
            return;
        }
        let mut rng = SmallRng::seed_from_u64(self.seed.wrapping_add(number));
        match self.corpus.choose(&mut rng) {
            Some(kept) => input.extend_from_slice(kept),
            None => input.extend((0..rng.random_range(0..64)).map(|_| rng.random::<u8>())),
        }
        for _ in 0..1 + rng
            .random_range(0..8u32)
            .saturating_sub(rng.random_range(0..6))
        {
            self.accident(&mut rng, input);
        }
        input.truncate(self.longest);
    }

    fn accident(&self, rng: &mut SmallRng, input: &mut Vec<u8>) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..12) {
            0 | 1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            2 if at < input.len() => input[at] = rng.random(),
            3 if at < input.len() => {
                input[at] = input[at].wrapping_add([1, 255, 16, 240][rng.random_range(0..4)]);
            }
            4 => self.insert(input, at, |rng| rng.random(), rng),
            5 => drop(input.drain(span(rng, input.len()))),
            6 => {
                let again = input[span(rng, input.len())].to_vec();
                input.splice(at..at, again);
            }
            7 => self.turn(rng, input, at),
            8 => self.graft(rng, input, at),
            9 => {
                let byte = rng.random();
                self.insert(input, at, |_| byte, rng);
            }
            10 => input.truncate(at),
            _ => self.turn(rng, input, at),
        }
    }

    fn insert(
        &self,
        input: &mut Vec<u8>,
        at: usize,
        mut byte: impl FnMut(&mut SmallRng) -> u8,
        rng: &mut SmallRng,
    ) {
        let length = if rng.random_ratio(1, 16) { 512 } else { 8 };
        let new: Vec<u8> = (0..rng.random_range(1..=length))
            .map(|_| byte(rng))
            .collect();
        input.splice(at..at, new);
    }

    /// Writes a turning point over what is there, or between.
    fn turn(&self, rng: &mut SmallRng, input: &mut Vec<u8>, at: usize) {
        let point = TURNING_POINTS.choose(rng).copied().unwrap_or_default();
        let varint = postcard::to_allocvec(&point).unwrap_or_default();
        let end = at
            + if rng.random() {
                varint.len().min(input.len() - at)
            } else {
                0
            };
        input.splice(at..end, varint);
    }

    /// Puts a part of another file of the corpus in.
    fn graft(&self, rng: &mut SmallRng, input: &mut Vec<u8>, at: usize) {
        let Some(other) = self.corpus.choose(rng) else {
            return;
        };
        let part = other[span(rng, other.len())].to_vec();
        let end = at
            + if rng.random() {
                part.len().min(input.len() - at)
            } else {
                0
            };
        input.splice(at..end, part);
    }
}

fn span(rng: &mut SmallRng, len: usize) -> std::ops::Range<usize> {
    let (one, other) = (rng.random_range(0..=len), rng.random_range(0..=len));
    one.min(other)..one.max(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seed: u64, name: &str) -> Vec<Vec<u8>> {
        let corpus = [b"hello".to_vec(), vec![0; 100]];
        let maker = Maker::new(seed, name, &corpus, 64);
        let mut input = Vec::new();
        let make = |number| {
            maker.input(number, &mut input);
            input.clone()
        };
        (0..200).map(make).collect()
    }

    #[test]
    fn an_input_is_made_again_from_its_number() {
        assert_eq!(inputs(1, "one"), inputs(1, "one"));
        assert_ne!(inputs(1, "one"), inputs(2, "one"));
        assert_ne!(inputs(1, "one"), inputs(1, "two"));
    }

    #[test]
    fn the_corpus_comes_first_and_nothing_is_too_long_after_it() {
        let inputs = inputs(1, "one");
        assert_eq!(inputs[0], b"hello");
        assert_eq!(inputs[1], [0; 100]);
        assert!(inputs[2..].iter().all(|input| input.len() <= 64));
    }
}
