//! Vectors by slot.

use crate::kernels;

/// Rows in a block. Blocks never move, so that growing does not copy what is there.
const BLOCK: usize = 1024;

/// Row numbers and vectors of all slots.
pub(super) struct Rows {
    dim: usize,
    row_numbers: Vec<u64>,
    blocks: Vec<Box<[f32]>>,
}

impl Rows {
    pub(super) fn new(dim: usize) -> Self {
        Self { dim, row_numbers: Vec::new(), blocks: Vec::new() }
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.row_numbers.len()
    }

    /// Fills the next slot. Row numbers ascend.
    pub(super) fn push(&mut self, row: u64, vector: &[f32]) -> u32 {
        debug_assert!(self.row_numbers.last().is_none_or(|&last| last < row));
        let slot = self.row_numbers.len();
        if slot % BLOCK == 0 {
            self.blocks.push(vec![0.0; BLOCK * self.dim].into_boxed_slice());
        }
        self.blocks[slot / BLOCK][slot % BLOCK * self.dim..][..self.dim].copy_from_slice(vector);
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
        &self.blocks[slot / BLOCK][slot % BLOCK * self.dim..][..self.dim]
    }

    /// Dot product of a query and a row.
    pub(super) fn score(&self, query: &[f32], slot: u32) -> f32 {
        kernels::dot(query, self.vector(slot))
    }
}
