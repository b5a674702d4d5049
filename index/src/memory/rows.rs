//! Vectors by slot: as they are, and in 8-bit codes.

use bytemuck::{Pod, Zeroable};

use super::codes::{self, Coding, QueryCodes};
use crate::kernels::{self, LINE};

/// Rows in a block. Blocks never move, so that growing does not copy what is there.
const BLOCK: usize = 1024;

/// A cache line of codes. Rows start at line boundaries.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Rows from a slot that is a multiple of [`BLOCK`].
struct Block {
    vectors: Box<[f32]>,
    codes: Box<[Line]>,
}

/// Row numbers, vectors and codes of all slots.
pub(super) struct Rows {
    dim: usize,
    width: usize,
    row_numbers: Vec<u64>,
    codings: Vec<Coding>,
    blocks: Vec<Block>,
}

impl Rows {
    pub(super) fn new(dim: usize) -> Self {
        Self {
            dim,
            width: codes::width(dim),
            row_numbers: Vec::new(),
            codings: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.row_numbers.len()
    }

    /// Fills the next slot. Row numbers ascend.
    pub(super) fn push(&mut self, row: u64, vector: &[f32]) -> u32 {
        debug_assert!(self.row_numbers.last().is_none_or(|&last| last < row));
        let slot = self.row_numbers.len();
        let place = slot % BLOCK;
        if place == 0 {
            self.blocks.push(Block {
                vectors: vec![0.0; BLOCK * self.dim].into_boxed_slice(),
                codes: vec![Line::zeroed(); BLOCK * self.width / LINE].into_boxed_slice(),
            });
        }
        let block = &mut self.blocks[slot / BLOCK];
        block.vectors[place * self.dim..][..self.dim].copy_from_slice(vector);
        let bytes = &mut bytemuck::cast_slice_mut(&mut block.codes)[place * self.width..][..self.width];
        self.codings.push(codes::encode_row(vector, bytes));
        self.row_numbers.push(row);
        u32::try_from(slot).expect("4 billion vectors do not fit in memory")
    }

    /// The slot of a row.
    pub(super) fn slot_of(&self, row: u64) -> Option<u32> {
        let slot = self.row_numbers.binary_search(&row).ok()?;
        u32::try_from(slot).ok()
    }

    pub(super) fn row_number(&self, slot: u32) -> u64 {
        self.row_numbers[slot as usize]
    }

    pub(super) fn vector(&self, slot: u32) -> &[f32] {
        let slot = slot as usize;
        &self.blocks[slot / BLOCK].vectors[slot % BLOCK * self.dim..][..self.dim]
    }

    /// What the codes of a slot mean.
    #[inline]
    pub(super) fn coding(&self, slot: u32) -> Coding {
        self.codings[slot as usize]
    }

    /// Stored codes of `count` slots from `first` on, all in one block.
    #[inline]
    pub(super) fn codes(&self, first: usize, count: usize) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.blocks[first / BLOCK].codes);
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
            kernels::dot_rows(&query.codes, self.codes(first, count), &mut sums[..count]);
        } else {
            for place in ones(wanted) {
                kernels::dot_rows(&query.codes, self.codes(first + place, 1), &mut sums[place..=place]);
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
