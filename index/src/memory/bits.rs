//! A set of slots as one bit each.

use roaring::RoaringBitmap;

/// Slots, 64 to a word.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// The slots of a bitmap that are below `len`.
    pub(super) fn of(slots: &RoaringBitmap, len: usize) -> Self {
        let mut words = vec![0; len.div_ceil(64)];
        for slot in slots {
            if let Some(word) = words.get_mut(slot as usize / 64) {
                *word |= 1 << (slot % 64);
            }
        }
        Self(words)
    }

    /// Whether a slot is in.
    #[inline]
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.word(slot as usize / 64) >> (slot % 64) & 1 == 1
    }

    /// Leaves only the slots that are in the other set, too.
    pub(super) fn keep(&mut self, other: &Self) {
        for (index, word) in self.0.iter_mut().enumerate() {
            *word &= other.word(index);
        }
    }

    /// Number of slots in the set.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn insert(&mut self, slot: u32) {
        let index = slot as usize / 64;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] |= 1 << (slot % 64);
    }

    /// Takes a slot out; true if it was in.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let bit = 1 << (slot % 64);
        let Some(word) = self.0.get_mut(slot as usize / 64) else { return false };
        let was_in = *word & bit != 0;
        *word &= !bit;
        was_in
    }

    /// Number of 64-slot words.
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }

    /// The 64 slots from `64 * index`; none beyond the end.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }
}
