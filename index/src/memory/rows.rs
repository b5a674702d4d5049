//! Vectors by slot: as they are, and in 8-bit codes.

use std::sync::Arc;

use super::codes::{self, Coding, QueryCodes};
use crate::{block::Block, kernels};

/// Most bytes of a block. Blocks never move, so that growing does not copy what is there.
const BLOCK_BYTES: usize = 8 << 20;

/// Row numbers, vectors and codes of all slots.
#[derive(Clone)]
pub(crate) struct Rows {
    dim: usize,
    width: usize,
    row_numbers: Vec<u64>,
    codings: Vec<Coding>,
    vectors: Blocks<f32>,
    codes: Blocks<u8>,
    /// Room for the codes of a row, used again and again.
    bytes: Vec<u8>,
}

/// Rows of equal length in blocks. Blocks may be shared with an older generation; who writes to a shared one copies it.
#[derive(Clone)]
struct Blocks<T: Copy> {
    blocks: Vec<Arc<Block<T>>>,
    /// Length of a row.
    width: usize,
    /// A block has 2 to the power of this rows: whole 64-slot words.
    shift: u32,
}

impl<T: Copy> Blocks<T> {
    fn new(width: usize) -> Self {
        let rows = (BLOCK_BYTES / (width * size_of::<T>()).max(1)).max(64);
        Self { blocks: Vec::new(), width, shift: rows.ilog2() }
    }

    /// Adds the row of the next slot.
    fn push(&mut self, slot: usize, row: &[T]) {
        let rows = 1usize << self.shift;
        if slot.is_multiple_of(rows) {
            self.blocks.push(Arc::new(Block::new(rows * self.width)));
        }
        Arc::make_mut(&mut self.blocks[slot >> self.shift]).extend(row);
    }

    /// `count` rows from a slot on, all in one block.
    #[inline]
    fn get(&self, slot: usize, count: usize) -> &[T] {
        let first = slot & ((1 << self.shift) - 1);
        &self.blocks[slot >> self.shift][first * self.width..][..count * self.width]
    }

    /// The first `slots` rows, whole blocks of them shared.
    fn prefix(&self, slots: usize) -> Self {
        let whole = slots >> self.shift;
        let mut prefix = Self { blocks: self.blocks[..whole].to_vec(), ..*self };
        for slot in whole << self.shift..slots {
            prefix.push(slot, self.get(slot, 1));
        }
        prefix
    }
}

impl Rows {
    pub(crate) fn new(dim: usize) -> Self {
        let width = codes::width(dim);
        Self {
            dim,
            width,
            row_numbers: Vec::new(),
            codings: Vec::new(),
            vectors: Blocks::new(dim),
            codes: Blocks::new(width),
            bytes: vec![0; width],
        }
    }

    /// Length of a vector.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Number of slots.
    pub(crate) fn len(&self) -> usize {
        self.row_numbers.len()
    }

    /// Memory for vectors and codes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let row = self.dim * size_of::<f32>() + self.width + size_of::<u64>() + size_of::<Coding>();
        (self.len() * row) as u64
    }

    /// Fills the next slot. Row numbers ascend.
    pub(crate) fn push(&mut self, row: u64, vector: &[f32]) -> u32 {
        debug_assert!(self.row_numbers.last().is_none_or(|&last| last < row));
        let slot = self.row_numbers.len();
        let mut bytes = std::mem::take(&mut self.bytes);
        self.codings.push(codes::encode_row(vector, &mut bytes));
        self.codes.push(slot, &bytes);
        self.bytes = bytes;
        self.vectors.push(slot, vector);
        self.row_numbers.push(row);
        u32::try_from(slot).expect("4 billion vectors do not fit in memory")
    }

    /// The first `slots` slots, whole blocks of them shared.
    pub(super) fn prefix(&self, slots: usize) -> Self {
        Self {
            dim: self.dim,
            width: self.width,
            row_numbers: self.row_numbers[..slots].to_vec(),
            codings: self.codings[..slots].to_vec(),
            vectors: self.vectors.prefix(slots),
            codes: self.codes.prefix(slots),
            bytes: vec![0; self.width],
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
        self.vectors.get(slot as usize, 1)
    }

    /// What the codes of a slot mean.
    #[inline]
    pub(crate) fn coding(&self, slot: u32) -> Coding {
        self.codings[slot as usize]
    }

    /// What the codes of the slots of a 64-slot word mean, those that there are.
    #[inline]
    pub(super) fn word_codings(&self, word: usize) -> &[Coding] {
        let first = word * 64;
        &self.codings[first..self.codings.len().min(first + 64)]
    }

    /// Value of one step of a slot's codes.
    pub(crate) fn scale(&self, slot: u32) -> f32 {
        self.coding(slot).scale
    }

    /// Stored codes of a slot.
    #[inline]
    pub(crate) fn row_codes(&self, slot: u32) -> &[u8] {
        self.codes.get(slot as usize, 1)
    }

    /// Asks the processor for a slot's codes.
    #[inline]
    pub(crate) fn prefetch_codes(&self, slot: u32) {
        kernels::prefetch(self.row_codes(slot));
    }

    /// Asks the processor for what a slot's codes mean.
    #[inline]
    pub(super) fn prefetch_coding(&self, slot: u32) {
        kernels::prefetch(std::slice::from_ref(&self.codings[slot as usize]));
    }

    /// Asks the processor for a slot's vector.
    #[inline]
    pub(super) fn prefetch_vector(&self, slot: u32) {
        kernels::prefetch(self.vector(slot));
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
            kernels::dot_rows(query.codes(), self.codes.get(first, count), &mut sums[..count]);
        } else {
            for place in ones(wanted) {
                kernels::dot_rows(query.codes(), self.codes.get(first + place, 1), &mut sums[place..=place]);
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
