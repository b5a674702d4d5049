//! What a WebP file makes its decoder take, found without decoding: it asks for leave for hardly any of it, and takes a
//! buffer as large as the file says before it looks whether the file is so long.

use super::DecodeError;
use super::error::corrupt;

const WEBP: &str = "WebP";

/// Bytes per pixel that the decoder takes beside the decoded image: it holds planes, and an image of the transparency.
const PER_PIXEL: u64 = 14;
/// What is compressed is read into a buffer that grows, and copied.
const PER_BYTE: u64 = 3;

/// Bytes that decoding takes beside the decoded image.
///
/// # Errors
/// [`DecodeError::Truncated`] if a part of the file is longer than the file.
pub(super) fn memory(bytes: &[u8]) -> Result<u64, DecodeError> {
    // The decoder takes missing bytes for zeros.
    let announced = bytes.get(4..8).and_then(<[u8]>::first_chunk).map(|length| u32::from_le_bytes(*length));
    if announced.is_none_or(|length| (bytes.len() as u64) < 8 + u64::from(length)) {
        return Err(DecodeError::Truncated { format: WEBP });
    }
    let mut largest = 0;
    for (name, body) in chunks(bytes.get(12..).unwrap_or_default()) {
        // An animation's frame is a picture within a chunk; the decoder looks at the first.
        let frame = if name == b"ANMF" { body.get(16..) } else { None };
        for (name, body) in std::iter::once((name, body)).chain(frame.into_iter().flat_map(chunks)) {
            largest = largest.max(match name {
                b"VP8 " => lossy_pixels(body)?,
                b"VP8L" => lossless_pixels(body),
                _ => 0,
            });
        }
    }
    Ok(PER_PIXEL * largest + PER_BYTE * bytes.len() as u64)
}

/// Names and contents of the chunks one after the other, the last one perhaps cut off.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        rest = after.get(length.next_multiple_of(2)..).unwrap_or_default();
        Some((name, &after[..length.min(after.len())]))
    })
}

/// A frame may claim to be larger than the picture. Planes are made of blocks of 16 x 16.
fn lossy_pixels(body: &[u8]) -> Result<u64, DecodeError> {
    let Some((head, rest)) = body.split_first_chunk::<10>() else { return Ok(0) };
    let first = (u32::from_le_bytes([head[0], head[1], head[2], 0]) >> 5) as usize;
    let first = rest.get(..first).ok_or(DecodeError::Truncated { format: WEBP })?;
    let partitions = Bits::new(first)
        .and_then(|mut bits| bits.partitions())
        .ok_or_else(|| corrupt(WEBP, "its header ends early"))?;
    // All but the last say how long they are.
    let rest = &rest[first.len()..];
    let sizes = rest.get(..3 * (partitions - 1)).ok_or(DecodeError::Truncated { format: WEBP })?;
    let sizes = sizes.as_chunks::<3>().0.iter().map(|[a, b, c]| u32::from_le_bytes([*a, *b, *c, 0]) as usize);
    if 3 * (partitions - 1) + sizes.sum::<usize>() > rest.len() {
        return Err(DecodeError::Truncated { format: WEBP });
    }
    let side =
        |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]) & 0x3FFF).next_multiple_of(16);
    Ok(side(6) * side(8))
}

fn lossless_pixels(body: &[u8]) -> u64 {
    let sides = body.get(1..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four));
    let side = |shift: u32| u64::from(sides >> shift & 0x3FFF) + 1;
    side(0) * side(14)
}

/// The arithmetic decoder of RFC 6386, section 7.3, for bits that are as likely set as not, as nearly the whole header is.
struct Bits<'a> {
    rest: &'a [u8],
    value: u32,
    range: u32,
    /// Shifts since the last byte came in.
    shifts: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Option<Bits<'a>> {
        let (first, rest) = bytes.split_first_chunk()?;
        Some(Bits { rest, value: u32::from(u16::from_be_bytes(*first)), range: 255, shifts: 0 })
    }

    fn bit(&mut self) -> Option<bool> {
        let split = 1 + (((self.range - 1) * 128) >> 8);
        let is_set = self.value >= split << 8;
        if is_set {
            self.range -= split;
            self.value -= split << 8;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            (self.value, self.range, self.shifts) = (self.value << 1, self.range << 1, self.shifts + 1);
            if self.shifts == 8 {
                let (byte, rest) = self.rest.split_first()?;
                (self.value, self.rest, self.shifts) = (self.value | u32::from(*byte), rest, 0);
            }
        }
        Some(is_set)
    }

    fn skip(&mut self, bits: usize) -> Option<()> {
        (0..bits).try_for_each(|_| self.bit().map(drop))
    }

    /// Skips `count` numbers of so many bits, each of which is only there if the bit before it is set.
    fn skip_optional(&mut self, count: usize, bits: usize) -> Option<()> {
        (0..count).try_for_each(|_| if self.bit()? { self.skip(bits) } else { Some(()) })
    }

    /// How many partitions follow the first one: RFC 6386, sections 9.2 to 9.5.
    fn partitions(&mut self) -> Option<usize> {
        // Colour space, clamping.
        self.skip(2)?;
        let has_segments = self.bit()?;
        if has_segments {
            let (maps, describes) = (self.bit()?, self.bit()?);
            if describes {
                // Quantisers and filter strengths, with their signs.
                self.skip(1)?;
                self.skip_optional(4, 8)?;
                self.skip_optional(4, 7)?;
            }
            if maps {
                self.skip_optional(3, 8)?;
            }
        }
        // The loop filter.
        self.skip(10)?;
        if self.bit()? && self.bit()? {
            self.skip_optional(8, 7)?;
        }
        Some(1 << (usize::from(self.bit()?) * 2 + usize::from(self.bit()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_PARTITION: &[u8] = include_bytes!("../../../tests/data/images/lossy.webp");
    const EIGHT_PARTITIONS: &[u8] = include_bytes!("../../../tests/data/images/partitions.webp");

    /// Where a frame begins in both files.
    const FRAME: usize = 20;

    #[test]
    fn the_largest_picture_counts() {
        let beside = |file: &[u8]| memory(file).map(|bytes| bytes - PER_BYTE * file.len() as u64);
        assert_eq!(beside(ONE_PARTITION), Ok(PER_PIXEL * 48 * 32));
        assert_eq!(beside(EIGHT_PARTITIONS), Ok(PER_PIXEL * 32 * 144));
    }

    #[test]
    fn partitions_are_counted_as_the_encoder_made_them() {
        for (file, expected) in [(ONE_PARTITION, 1), (EIGHT_PARTITIONS, 8)] {
            assert_eq!(Bits::new(&file[FRAME + 10..]).and_then(|mut bits| bits.partitions()), Some(expected));
        }
    }

    #[test]
    fn a_partition_that_ends_after_the_file_is_found() {
        let refused = Err(DecodeError::Truncated { format: WEBP });
        let mut file = ONE_PARTITION.to_vec();
        file[FRAME + 2] = 0xFF;
        assert_eq!(memory(&file), refused, "the first");
        let first = u32::from_le_bytes(*EIGHT_PARTITIONS[FRAME..].first_chunk().unwrap()) << 8 >> 13;
        for other in 0..7 {
            let mut file = EIGHT_PARTITIONS.to_vec();
            file[FRAME + 10 + first as usize + 3 * other + 2] = 0xFF;
            assert_eq!(memory(&file), refused, "number {other} of the others");
        }
    }
}
