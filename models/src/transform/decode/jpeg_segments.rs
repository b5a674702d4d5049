//! What comes before a JPEG's pixels, read without decoding: its size, its sampling, and where its segments lie.

/// What a frame header says about memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The coefficients of the whole image are kept until the last scan is read.
    is_buffered: bool,
    /// Horizontal and vertical sampling factor of each component.
    sampling: Vec<(u64, u64)>,
}

/// A marker and the bytes that follow it, length included.
struct Segment<'a> {
    marker: u8,
    body: &'a [u8],
    /// Where the marker begins in the file.
    start: usize,
    end: usize,
}

const START_OF_SCAN: u8 = 0xDA;

/// The segments from the start of the file to the first scan, with its header. Bytes that belong to none are skipped.
fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            let start =
                at + bytes.get(at..)?.windows(2).position(|w| w[0] == 0xFF && w[1] != 0xFF && w[1] != 0)?;
            let marker = bytes[start + 1];
            // Markers without a body.
            if marker == 0x01 || (0xD0..=0xD8).contains(&marker) {
                at = start + 2;
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*bytes.get(start + 2..)?.first_chunk()?));
            let end = start + 2 + length.max(2);
            let body = bytes.get(start + 2..end)?;
            at = if marker == START_OF_SCAN { bytes.len() } else { end };
            return Some(Segment { marker, body, start, end });
        }
    })
}

impl Frame {
    /// The first frame header of the file.
    pub(super) fn of(bytes: &[u8]) -> Option<Frame> {
        // C4, C8 and CC are other tables.
        let is_frame = |marker: u8| matches!(marker, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF);
        let mut rest = segments(bytes).skip_while(|segment| !is_frame(segment.marker));
        let Segment { marker, body, .. } = rest.next()?;
        let word = |at: usize| Some(u32::from(u16::from_be_bytes(*body.get(at..)?.first_chunk()?)));
        let components = usize::from(*body.get(7)?);
        let sampling = body.get(8..8 + 3 * components)?.as_chunks::<3>().0;
        let scanned = rest.find(|segment| segment.marker == START_OF_SCAN)?.body.get(2).copied()?;
        Some(Frame {
            height: word(3)?,
            width: word(5)?,
            is_buffered: marker == 0xC2 || usize::from(scanned) < components,
            sampling: sampling.iter().map(|[_, s, _]| (u64::from(s >> 4), u64::from(s & 15))).collect(),
        })
    }

    /// An upper bound on the bytes that decoding to RGB takes, the result included.
    pub(super) fn memory(&self) -> u64 {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let h_max = self.sampling.iter().map(|s| s.0).max().unwrap_or(1).max(1);
        let v_max = self.sampling.iter().map(|s| s.1).max().unwrap_or(1).max(1);
        let image = 3 * width * height;
        // Rows of blocks on their way through the decoder, in a few copies of up to 4 bytes a value.
        let padded = width.div_ceil(8 * h_max) * 8 * h_max;
        let rows = self.sampling.len() as u64 * padded * 8 * v_max * 2 * 6 + (64 << 10);
        if !self.is_buffered {
            return image + rows;
        }
        // Two bytes a coefficient; the decoder rounds up twice where only rows are interleaved.
        let blocks = width.div_ceil(8 * h_max) * height.div_ceil(8 * v_max);
        let coefficients: u64 = self.sampling.iter().map(|(h, v)| blocks * h * v * 64 * 2).sum();
        image + rows + coefficients * v_max.div_ceil(h_max)
    }
}

/// The file without the bytes between its segments that belong to none, or `None` if there are no such bytes.
///
/// Some cameras and editors leave padding there; viewers skip it.
pub(super) fn without_stray_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = bytes.get(..2)?.to_vec();
    let mut end = 2;
    for segment in segments(bytes) {
        out.extend_from_slice(&bytes[segment.start..segment.end]);
        end = segment.end;
    }
    out.extend_from_slice(&bytes[end..]);
    (out.len() < bytes.len()).then_some(out)
}
