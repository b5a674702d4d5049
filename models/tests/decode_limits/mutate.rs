//! Damage as it happens and as it is made on purpose.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers that sizes and lengths are set to, to make arithmetic overflow.
const NASTY: [u32; 8] = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// File number `case`: one of `files` with one to eight things changed.
pub(crate) fn damaged(files: &[(&'static str, Vec<u8>)], case: u64) -> (&'static str, Vec<u8>) {
    let mut rng = ChaCha8Rng::seed_from_u64(case);
    let (name, bytes) = &files[rng.random_range(0..files.len())];
    let mut bytes = bytes.clone();
    for _ in 0..rng.random_range(1..=8) {
        if bytes.is_empty() {
            break;
        }
        let at = place(&mut rng, bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => {
                let number = NASTY[rng.random_range(0..NASTY.len())];
                let number = if rng.random() { number.to_be_bytes() } else { number.to_le_bytes() };
                let width = [1, 2, 4][rng.random_range(0..3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[4 - width..]);
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..(at + rng.random_range(1..40)).min(bytes.len()))),
            5 => {
                let length = rng.random_range(1..40).min(bytes.len() - at);
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let (_, other) = &files[rng.random_range(0..files.len())];
                let from = place(&mut rng, other.len());
                let length = rng.random_range(1..60).min(other.len() - from);
                let end = (at + length).min(bytes.len());
                bytes.splice(at..end, other[from..from + length].iter().copied());
            }
        }
    }
    (name, bytes)
}

/// Half of the time in the first hundred bytes, where what matters is.
fn place(rng: &mut ChaCha8Rng, length: usize) -> usize {
    let end = if rng.random() { length } else { length.min(100) };
    rng.random_range(0..end)
}
