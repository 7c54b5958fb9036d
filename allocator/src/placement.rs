//! How well a relay suits an account: weighted rendezvous hashing.
//!
//! Every relay draws a number for every account, by a hash of both their names, and the highest
//! wins. So accounts spread evenly, anyone can work out the order without a table, and a relay that
//! joins or leaves changes nothing between the others (Thaler and Ravishankar, "Using name-based
//! mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998). Drawing
//! `-w / ln u` for a uniform `u` gives each relay a share in proportion to its weight `w`
//! (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005, the logarithmic
//! method; also draft-ietf-bess-weighted-hrw).

use std::hash::Hasher;

use holdfast_protocol::id::Name;
use siphasher::sip::SipHasher24;

/// The key of the hash. It is no secret, and never changes: it decides where accounts that are not
/// pinned yet would go, on every machine and in every version.
const KEY: [u8; 16] = *b"holdfast/place/1";

/// What `relay` draws for `subject`: the higher, the better it suits.
pub(crate) fn draw(subject: &Name, relay: &Name, capacity: u32) -> f64 {
    -f64::from(capacity) / uniform(hash(subject, relay)).ln()
}

/// The names' bytes are hashed as they are: what `Hash` makes of a string may change with Rust.
fn hash(subject: &Name, relay: &Name) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&KEY);
    hasher.write(subject.as_str().as_bytes());
    // No name contains it, so no two pairs of names are the same bytes.
    hasher.write(b"/");
    hasher.write(relay.as_str().as_bytes());
    hasher.finish()
}

/// A number between 0 and 1, both excluded. Of the hash 52 bits are taken: with more, adding one
/// half would round the largest up to 1, whose logarithm is no divisor.
fn uniform(hash: u64) -> f64 {
    const STEPS: f64 = (1_u64 << 52) as f64;
    ((hash >> 12) as f64 + 0.5) / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(&name("alice"), &name("r1")), 0xcc9f_77da_74b1_5189);
        assert_eq!(hash(&name("alice"), &name("r2")), 0x1a49_075f_a9a4_d4ae);
        assert_eq!(hash(&name("bob"), &name("r1")), 0x9c7e_8dcf_9584_33da);
    }

    #[test]
    fn a_border_between_names_counts() {
        assert_ne!(hash(&name("ab"), &name("c")), hash(&name("a"), &name("bc")));
    }

    #[test]
    fn every_hash_gives_a_number_strictly_between_0_and_1() {
        for hash in [0, 1, 0xfff, 0x1000, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let uniform = uniform(hash);
            assert!(uniform > 0.0 && uniform < 1.0, "{hash:x}: {uniform}");
            assert!((-1.0 / uniform.ln()).is_finite());
        }
    }

    #[test]
    fn a_higher_capacity_draws_higher() {
        let (alice, r1) = (name("alice"), name("r1"));
        let single = draw(&alice, &r1, 1);
        assert!((draw(&alice, &r1, 3) / single - 3.0).abs() < 1e-9);
        assert!(draw(&alice, &r1, u32::MAX).is_finite());
    }
}
