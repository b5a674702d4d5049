//! What a TIFF's directory announces, before the decoder believes it.

/// Bytes that the decoder takes per value of a list in the directory: first as an enumeration, then as numbers.
const BYTES_PER_VALUE: u64 = 64;
/// Tags up to this one describe the pixels and are read; what comes later (metadata of other programs) is passed over.
const LAST_READ_TAG: u16 = 346;

/// Memory for the lists of the first directory (strips, tiles, palettes): a file of a few bytes may announce millions.
pub(super) fn memory(bytes: &[u8]) -> Option<u64> {
    let is_little = match bytes.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if is_little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    // The larger form, for files of more than 4 GB, has wider fields.
    let is_big = number(2, 2)? == 43;
    let (start, word, entry, count) =
        if is_big { (number(8, 8)?, 8, 20, 8) } else { (number(4, 4)?, 2, 12, 4) };
    let start = usize::try_from(start).ok()?;
    let entries = number(start, word)?.min(bytes.len() as u64 / entry as u64);
    let mut values = 0u64;
    for index in 0..entries as usize {
        let at = start.checked_add(word + index * entry)?;
        if number(at, 2)? <= u64::from(LAST_READ_TAG) {
            values = values.saturating_add(number(at + 4, count)?);
        }
    }
    Some(values.saturating_mul(BYTES_PER_VALUE))
}
