//! Counting an animation's frames without decoding any.

use image::ImageFormat;

/// Whether there are more than `limit` frames. Stops at the first surplus one, or where the file stops making sense:
/// what is wrong with it is for the decoder to say.
pub(super) fn are_more_than(limit: u32, bytes: &[u8], format: ImageFormat) -> bool {
    let limit = u64::from(limit);
    let count = match format {
        ImageFormat::Gif => gif(bytes, limit),
        ImageFormat::Png => png(bytes),
        ImageFormat::WebP => webp(bytes, limit),
        _ => None,
    };
    count.is_some_and(|count| count > limit)
}

/// Image descriptors, up to `limit` + 1 of them.
fn gif(bytes: &[u8], limit: u64) -> Option<u64> {
    /// Bytes of a colour table, by the flags byte of what it belongs to.
    fn colour_table(flags: u8) -> usize {
        if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
    }
    let mut at = 13 + colour_table(*bytes.get(10)?);
    let mut count = 0;
    while count <= limit {
        match bytes.get(at) {
            Some(0x2C) => {
                count += 1;
                // Descriptor, colour table, and the byte that starts the compressed data.
                at += 10 + colour_table(bytes.get(at + 9).copied().unwrap_or(0)) + 1;
            }
            Some(0x21) => at += 2,
            _ => break,
        }
        // Blocks of up to 255 bytes, each after its length; an empty one is the end.
        loop {
            let length = usize::from(bytes.get(at).copied().unwrap_or(0));
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
    Some(count)
}

/// What the animation control chunk announces, which comes before the pixels.
fn png(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(rest.first_chunk()?.to_owned()) as usize;
        match rest.get(4..8)? {
            b"acTL" => return Some(u64::from(u32::from_be_bytes(rest.get(8..)?.first_chunk()?.to_owned()))),
            b"IDAT" => return None,
            _ => rest = rest.get(length.checked_add(12)?..)?,
        }
    }
}

/// Frame chunks, up to `limit` + 1 of them.
fn webp(bytes: &[u8], limit: u64) -> Option<u64> {
    let mut rest = bytes.get(12..)?;
    let mut count = 0;
    while count <= limit {
        let (Some(name), Some(length)) = (rest.get(..4), rest.get(4..8).and_then(|b| b.first_chunk())) else {
            break;
        };
        count += u64::from(name == b"ANMF");
        let length = u32::from_le_bytes(*length) as usize;
        match rest.get(8usize.saturating_add(length.next_multiple_of(2))..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some(count)
}
