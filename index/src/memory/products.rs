//! Which product each slot shows.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Products, numbered in order of appearance.
#[derive(Default)]
pub(super) struct Products {
    numbers: BTreeMap<Arc<str>, u32>,
    ids: Vec<Arc<str>>,
    of_slot: Vec<u32>,
    /// Slots of each product, ascending; dead ones stay.
    slots: Vec<Vec<u32>>,
    /// Live slots of each product.
    live: Vec<u32>,
    /// Products with a live slot.
    live_count: usize,
}

impl Products {
    /// Notes the product of the next slot.
    pub(super) fn push(&mut self, slot: u32, id: &str) {
        let number = match self.numbers.get(id) {
            Some(&number) => number,
            None => {
                // There are no more products than slots, and those are counted in u32.
                let number = self.slots.len() as u32;
                let id: Arc<str> = id.into();
                self.numbers.insert(Arc::clone(&id), number);
                self.ids.push(id);
                self.slots.push(Vec::new());
                self.live.push(0);
                number
            }
        };
        self.of_slot.push(number);
        self.slots[number as usize].push(slot);
        self.live[number as usize] += 1;
        self.live_count += usize::from(self.live[number as usize] == 1);
    }

    /// Notes that a live slot died.
    pub(super) fn remove(&mut self, slot: u32) {
        let live = &mut self.live[self.of_slot[slot as usize] as usize];
        *live -= 1;
        self.live_count -= usize::from(*live == 0);
    }

    /// The product of a slot.
    #[inline]
    pub(super) fn of(&self, slot: u32) -> u32 {
        self.of_slot[slot as usize]
    }

    /// The id of a slot's product.
    pub(super) fn id_of(&self, slot: u32) -> &str {
        &self.ids[self.of(slot) as usize]
    }

    /// Slots of a product, dead ones included.
    pub(super) fn slots_of(&self, id: &str) -> &[u32] {
        self.numbers.get(id).map_or(&[], |&number| &self.slots[number as usize])
    }

    /// Products with live slots in order of their ids, after `after`, and how many slots each has.
    pub(super) fn list(&self, after: Option<&str>) -> impl Iterator<Item = (&str, usize)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.numbers.range::<str, _>((start, Bound::Unbounded));
        range.map(|(id, &number)| (&**id, self.live[number as usize] as usize)).filter(|&(_, live)| live > 0)
    }

    pub(super) fn live_count(&self) -> usize {
        self.live_count
    }
}
