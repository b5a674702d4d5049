//! Hostile files: whatever comes in, decoding neither panics nor takes more memory than allowed, and says what is wrong.
//!
//! A test binary of its own, because it counts every allocation.

mod allocator;
mod bombs;
mod files;
mod mutate;

use std::time::{Duration, Instant};

use allocator::peak_of;
use dfml_models::{DecodeError, DecodeLimits, Picture};

/// Decodes, holding the decoder to its limits; `name` is for messages.
fn decode(name: &str, bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, DecodeError> {
    let start = Instant::now();
    let (decoded, peak) = peak_of(|| Picture::decode(bytes, limits));
    assert!(peak <= limits.max_memory, "{name}: {peak} bytes taken, {} allowed", limits.max_memory);
    assert!(start.elapsed() < Duration::from_secs(20), "{name}: took {:?}", start.elapsed());
    match &decoded {
        Ok(picture) => {
            let pixels = u64::from(picture.width()) * u64::from(picture.height());
            assert!(pixels <= limits.max_pixels, "{name}: {pixels} pixels");
        }
        Err(error) => assert!(error.to_string().len() > 10, "{name}: {error:?} says nothing"),
    }
    decoded
}

/// Kept small, so that a decoder that does not ask before it takes is found out.
const TIGHT: DecodeLimits =
    DecodeLimits { max_bytes: 4 << 20, max_pixels: 1 << 20, max_frames: 64, max_memory: 16 << 20 };

#[test]
fn bombs_are_refused_by_name_and_cost_nothing() {
    for (name, bytes, expected) in bombs::all() {
        let error = decode(name, &bytes, &DecodeLimits::default()).expect_err(name);
        assert_eq!(error.kind(), expected, "{name}: {error}");
        let (_, peak) = peak_of(|| Picture::decode(&bytes, &DecodeLimits::default()));
        assert!(peak < 4 << 20, "{name}: refused, but {peak} bytes were taken");
    }
}

#[test]
fn what_is_compressed_beside_the_pixels_is_not_unpacked_beyond_the_limit() {
    for (name, bytes) in bombs::hidden() {
        assert!(bytes.len() < TIGHT.max_bytes, "{name}: {} bytes", bytes.len());
        // Refused or passed over, as long as the memory stays within the limit.
        let _ = decode(name, &bytes, &TIGHT);
    }
}

#[test]
fn the_largest_images_that_are_accepted_stay_within_the_memory_limit() {
    let limits = DecodeLimits { max_pixels: 1_000_000, max_memory: 10 << 20, ..DecodeLimits::default() };
    for (name, bytes) in files::large() {
        let picture = decode(name, &bytes, &limits).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((picture.width(), picture.height()), (1000, 1000), "{name}");
        // As little as the image itself is never enough.
        let limits = DecodeLimits { max_memory: 3 * 1000 * 1000, ..limits };
        let error = decode(name, &bytes, &limits).expect_err(name);
        assert_eq!(error.kind(), "too_much_memory", "{name}: {error}");
    }
}

#[test]
fn files_cut_short_are_errors_or_whole() {
    for (name, bytes) in files::small() {
        let whole =
            decode(name, &bytes, &TIGHT).unwrap_or_else(|error| panic!("{name}: {error}")).into_upright();
        let step = (bytes.len() / 150).max(1);
        for length in (0..bytes.len()).step_by(step) {
            if let Ok(picture) = decode(name, &bytes[..length], &TIGHT) {
                assert!(picture.into_upright() == whole, "{name} cut to {length} bytes is another image");
            }
        }
    }
}

/// Seeded, so that a failure comes again.
#[test]
fn damaged_files_never_panic_nor_take_more_than_they_may() {
    let cases = 100_000;
    let files = files::small();
    let (mut refused, mut kinds) = (0, std::collections::BTreeMap::new());
    for case in 0..cases {
        let (name, bytes) = mutate::damaged(&files, case);
        if let Err(error) = decode(&format!("case {case}, {name}"), &bytes, &TIGHT) {
            refused += 1;
            *kinds.entry(error.kind()).or_insert(0) += 1;
        }
    }
    println!("{cases} damaged files: {refused} refused, {kinds:?}");
    assert!(refused > cases / 4, "only {refused} of {cases} damaged files were noticed: {kinds:?}");
    assert!(kinds.len() >= 4, "the damage is all of one kind: {kinds:?}");
}
