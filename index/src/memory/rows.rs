//! Vectors by slot: as they are, and in 8-bit codes.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::codes::{self, Coding, QueryCodes};
use crate::kernels::{self, LINE};

/// Rows in a block. Blocks never move, so that growing does not copy what is there.
const BLOCK: usize = 1024;

/// A cache line of codes. Rows start at line boundaries.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Row numbers, vectors and codes of all slots.
#[derive(Clone)]
pub(crate) struct Rows {
    dim: usize,
    width: usize,
    row_numbers: Vec<u64>,
    codings: Vec<Coding>,
    /// Vectors by block of [`BLOCK`] slots. Blocks may be shared with an older generation; who writes to a shared one copies it.
    vectors: Vec<Arc<[f32]>>,
    /// Codes by block.
    codes: Vec<Arc<[Line]>>,
}

impl Rows {
    pub(crate) fn new(dim: usize) -> Self {
        Self {
            dim,
            width: codes::width(dim),
            row_numbers: Vec::new(),
            codings: Vec::new(),
            vectors: Vec::new(),
            codes: Vec::new(),
        }
    }

    /// Number of slots.
    pub(crate) fn len(&self) -> usize {
        self.row_numbers.len()
    }

    /// Memory for vectors and codes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let block = BLOCK * (self.dim * 4 + self.width);
        (self.vectors.len() * block + self.len() * (size_of::<u64>() + size_of::<Coding>())) as u64
    }

    /// Fills the next slot. Row numbers ascend.
    pub(crate) fn push(&mut self, row: u64, vector: &[f32]) -> u32 {
        debug_assert!(self.row_numbers.last().is_none_or(|&last| last < row));
        let slot = self.row_numbers.len();
        let place = slot % BLOCK;
        if place == 0 {
            self.vectors.push(vec![0.0; BLOCK * self.dim].into());
            self.codes.push(vec![Line::zeroed(); BLOCK * self.width / LINE].into());
        }
        let vectors = Arc::make_mut(&mut self.vectors[slot / BLOCK]);
        vectors[place * self.dim..][..self.dim].copy_from_slice(vector);
        let codes = Arc::make_mut(&mut self.codes[slot / BLOCK]);
        let bytes = &mut bytemuck::cast_slice_mut(codes)[place * self.width..][..self.width];
        self.codings.push(codes::encode_row(vector, bytes));
        self.row_numbers.push(row);
        u32::try_from(slot).expect("4 billion vectors do not fit in memory")
    }

    /// The first `slots` slots, whole blocks of them shared.
    pub(super) fn prefix(&self, slots: usize) -> Self {
        let blocks = slots.div_ceil(BLOCK);
        Self {
            dim: self.dim,
            width: self.width,
            row_numbers: self.row_numbers[..slots].to_vec(),
            codings: self.codings[..slots].to_vec(),
            vectors: self.vectors[..blocks].to_vec(),
            codes: self.codes[..blocks].to_vec(),
        }
    }

    /// The slot of a row.
    pub(crate) fn slot_of(&self, row: u64) -> Option<u32> {
        let slot = self.row_numbers.binary_search(&row).ok()?;
        u32::try_from(slot).ok()
    }

    pub(crate) fn row_number(&self, slot: u32) -> u64 {
        self.row_numbers[slot as usize]
    }

    pub(crate) fn vector(&self, slot: u32) -> &[f32] {
        let slot = slot as usize;
        &self.vectors[slot / BLOCK][slot % BLOCK * self.dim..][..self.dim]
    }

    /// What the codes of a slot mean.
    #[inline]
    pub(crate) fn coding(&self, slot: u32) -> Coding {
        self.codings[slot as usize]
    }

    /// Value of one step of a slot's codes.
    pub(crate) fn scale(&self, slot: u32) -> f32 {
        self.coding(slot).scale
    }

    /// Bytes of a row of codes.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Stored codes of a slot.
    #[inline]
    pub(crate) fn row_codes(&self, slot: u32) -> &[u8] {
        self.codes(slot as usize, 1)
    }

    /// Asks the processor for what a comparison with a slot's codes reads.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        kernels::prefetch(self.row_codes(slot));
        kernels::prefetch(std::slice::from_ref(&self.codings[slot as usize]));
    }

    /// Codes of a slot's vector as a query.
    pub(crate) fn query_codes(&self, slot: u32) -> QueryCodes {
        QueryCodes::new(self.vector(slot))
    }

    /// Estimate of the cosine of two slots' vectors, out of their codes.
    #[inline]
    pub(crate) fn similarity(&self, a: u32, b: u32) -> f32 {
        kernels::dot_pair(self.row_codes(a), self.row_codes(b)) as f32 * (self.scale(a) * self.scale(b))
    }

    /// Stored codes of `count` slots from `first` on, all in one block.
    #[inline]
    pub(super) fn codes(&self, first: usize, count: usize) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.codes[first / BLOCK]);
        &bytes[first % BLOCK * self.width..][..count * self.width]
    }

    /// Dot product of a query and a row.
    pub(super) fn score(&self, query: &[f32], slot: u32) -> f32 {
        kernels::dot(query, self.vector(slot))
    }

    /// Integer dot products with the 64 slots of a word, of which those in `wanted` count; the others may hold anything.
    #[inline]
    pub(super) fn word_sums(&self, query: &QueryCodes, word: usize, wanted: u64, sums: &mut [i32; 64]) {
        /// With fewer slots wanted, they are computed one by one.
        const FEW: u32 = 12;
        let first = word * 64;
        if wanted.count_ones() > FEW {
            let count = (self.len() - first).min(64);
            kernels::dot_rows(query.codes(), self.codes(first, count), &mut sums[..count]);
        } else {
            for place in ones(wanted) {
                kernels::dot_rows(query.codes(), self.codes(first + place, 1), &mut sums[place..=place]);
            }
        }
    }
}

/// Positions of the ones of a word, ascending.
pub(super) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(place)
    })
}
