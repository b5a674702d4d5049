//! NumPy's file format.

/// Header of a NumPy file, version 1.0, for little-endian f32 `[rows, columns]` row by row.
pub(super) fn header(rows: usize, columns: usize) -> Vec<u8> {
    const BEFORE_TEXT: usize = 10;
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // The data starts at a multiple of 64 bytes; the text ends with a line feed.
    let total = (BEFORE_TEXT + text.len() + 1).next_multiple_of(64);
    text.push_str(&" ".repeat(total - BEFORE_TEXT - text.len() - 1));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let length = u16::try_from(text.len()).expect("two numbers and 60 letters are shorter than 65,536");
    header.extend(length.to_le_bytes());
    header.extend(text.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_is_what_numpy_writes() {
        // Bytes of numpy.save for zeros((2, 3), float32), numpy 2.3.
        let header = header(2, 3);
        assert_eq!(header.len(), 128);
        assert!(header.starts_with(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  "
        ));
        assert_eq!(header[127], b'\n');
    }
}
