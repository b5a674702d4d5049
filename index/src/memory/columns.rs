//! Metadata fields as bitmaps of slots, and filters answered from them.
//!
//! A column is built when a filter first names its field, and kept up from then on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::products::Products;
use crate::{Filter, IndexError, Scalar, store::Store};

/// In a table of new slots: this one has none.
pub(super) const GONE: u32 = u32::MAX;

/// One metadata field: which slots have which value. Dead slots stay in.
#[derive(Default)]
pub(crate) struct Column {
    texts: HashMap<Box<str>, RoaringBitmap>,
    bools: [RoaringBitmap; 2],
    /// Numbers in order, as [`order_key`].
    numbers: BTreeSet<(u64, u32)>,
}

/// The columns that have been asked for.
#[derive(Default)]
pub(super) struct Columns {
    built: BTreeMap<String, Column>,
    /// Every field that some item has had, once a column has been built. Others need no column: no item meets a condition on them.
    known: Option<HashSet<Box<str>>>,
}

impl Columns {
    /// Notes the metadata of a new slot.
    pub(super) fn add(&mut self, slot: u32, metadata: &Map<String, Value>) {
        let Some(known) = &mut self.known else { return };
        for (field, value) in metadata {
            if let Some(column) = self.built.get_mut(field) {
                column.add(slot, value);
            } else if !known.contains(field.as_str()) {
                // The first item with this field: its column is complete with it.
                known.insert(field.as_str().into());
                let mut column = Column::default();
                column.add(slot, value);
                self.built.insert(field.clone(), column);
            }
        }
    }

    /// Notes that a slot's metadata has changed.
    pub(super) fn change(&mut self, slot: u32, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (field, value) in old {
            if let Some(column) = self.built.get_mut(field) {
                column.remove(slot, value);
            }
        }
        self.add(slot, new);
    }

    /// The same columns for other slots: `slots[old]` is the new slot, [`GONE`] if there is none.
    pub(super) fn moved(&self, slots: &[u32]) -> Self {
        let built = self.built.iter().map(|(field, column)| (field.clone(), column.moved(slots))).collect();
        Self { built, known: self.known.clone() }
    }

    /// Fields that have a column.
    pub(super) fn fields(&self) -> BTreeSet<String> {
        self.built.keys().cloned().collect()
    }

    /// Fields of the filter that need a column built.
    pub(super) fn missing(&self, filter: &Filter) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        collect_fields(filter, &mut fields);
        fields
            .into_iter()
            .filter(|field| !self.built.contains_key(*field))
            .filter(|field| self.known.as_ref().is_none_or(|known| known.contains(*field)))
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn insert(&mut self, built: Built) {
        self.known.get_or_insert(built.known);
        self.built.extend(built.columns);
    }

    /// The slots below `len` that meet the filter; dead ones may be among them.
    pub(super) fn select(&self, filter: &Filter, products: &Products, len: usize) -> RoaringBitmap {
        match filter {
            Filter::Equals { field, value } => self.column(field, |column| column.equal(value)),
            Filter::AnyOf { field, values } => self.column(field, |column| {
                values.iter().fold(RoaringBitmap::new(), |slots, value| slots | column.equal(value))
            }),
            Filter::Range { field, min, max } => self.column(field, |column| column.between(*min, *max)),
            Filter::Products(ids) => ids.iter().flat_map(|id| products.slots_of(id)).copied().collect(),
            Filter::And(all) => {
                let mut parts = all.iter().map(|filter| self.select(filter, products, len));
                let Some(first) = parts.next() else { return everything(len) };
                parts.fold(first, |slots, part| slots & part)
            }
            Filter::Or(any) => any
                .iter()
                .map(|filter| self.select(filter, products, len))
                .fold(RoaringBitmap::new(), |slots, part| slots | part),
            Filter::Not(filter) => everything(len) - self.select(filter, products, len),
        }
    }

    fn column(&self, field: &str, select: impl FnOnce(&Column) -> RoaringBitmap) -> RoaringBitmap {
        self.built.get(field).map(select).unwrap_or_default()
    }
}

impl Column {
    fn add(&mut self, slot: u32, value: &Value) {
        for scalar in Scalar::of_field(value) {
            match scalar {
                Scalar::Bool(value) => self.bools[usize::from(value)].insert(slot),
                Scalar::Number(value) => self.numbers.insert((order_key(value), slot)),
                Scalar::Text(text) => self.texts.entry(text.into_boxed_str()).or_default().insert(slot),
            };
        }
    }

    fn remove(&mut self, slot: u32, value: &Value) {
        for scalar in Scalar::of_field(value) {
            match scalar {
                Scalar::Bool(value) => drop(self.bools[usize::from(value)].remove(slot)),
                Scalar::Number(value) => drop(self.numbers.remove(&(order_key(value), slot))),
                Scalar::Text(text) => {
                    if let Some(slots) = self.texts.get_mut(text.as_str()) {
                        slots.remove(slot);
                        if slots.is_empty() {
                            self.texts.remove(text.as_str());
                        }
                    }
                }
            }
        }
    }

    fn moved(&self, slots: &[u32]) -> Self {
        let place = |old: u32| slots.get(old as usize).copied().filter(|&new| new != GONE);
        let moved = |old: &RoaringBitmap| old.iter().filter_map(place).collect::<RoaringBitmap>();
        let texts = self.texts.iter().map(|(text, old)| (text.clone(), moved(old)));
        Self {
            texts: texts.filter(|(_, slots)| !slots.is_empty()).collect(),
            bools: [moved(&self.bools[0]), moved(&self.bools[1])],
            numbers: self.numbers.iter().filter_map(|&(key, old)| Some((key, place(old)?))).collect(),
        }
    }

    fn equal(&self, value: &Scalar) -> RoaringBitmap {
        match value {
            Scalar::Bool(value) => self.bools[usize::from(*value)].clone(),
            Scalar::Number(value) => self.between(Some(*value), Some(*value)),
            Scalar::Text(text) => self.texts.get(text.as_str()).cloned().unwrap_or_default(),
        }
    }

    fn between(&self, min: Option<f64>, max: Option<f64>) -> RoaringBitmap {
        if [min, max].into_iter().flatten().any(f64::is_nan) {
            return RoaringBitmap::new();
        }
        let low = min.map_or(0, order_key);
        let high = max.map_or(u64::MAX, order_key);
        if low > high {
            return RoaringBitmap::new();
        }
        self.numbers.range((low, 0)..=(high, u32::MAX)).map(|&(_, slot)| slot).collect()
    }
}

/// Columns made from a store.
pub(crate) struct Built {
    columns: Vec<(String, Column)>,
    known: HashSet<Box<str>>,
}

/// Reads the metadata of every row and builds columns of these fields. `slot_of` tells the slot of a row.
pub(super) fn build(
    store: &Store,
    fields: BTreeSet<String>,
    slot_of: impl Fn(u64) -> Option<u32>,
) -> Result<Built, IndexError> {
    let mut columns: Vec<(String, Column)> =
        fields.into_iter().map(|field| (field, Column::default())).collect();
    let mut known: HashSet<Box<str>> = HashSet::new();
    store.for_each_metadata(|row, metadata| {
        let Some(slot) = slot_of(row) else { return };
        for (field, column) in &mut columns {
            if let Some(value) = metadata.get(field) {
                column.add(slot, value);
            }
        }
        for field in metadata.keys() {
            if !known.contains(field.as_str()) {
                known.insert(field.as_str().into());
            }
        }
    })?;
    Ok(Built { columns, known })
}

fn collect_fields<'f>(filter: &'f Filter, fields: &mut BTreeSet<&'f str>) {
    match filter {
        Filter::Equals { field, .. } | Filter::AnyOf { field, .. } | Filter::Range { field, .. } => {
            fields.insert(field);
        }
        Filter::Products(_) => {}
        Filter::And(filters) | Filter::Or(filters) => {
            filters.iter().for_each(|filter| collect_fields(filter, fields))
        }
        Filter::Not(filter) => collect_fields(filter, fields),
    }
}

fn everything(len: usize) -> RoaringBitmap {
    let mut slots = RoaringBitmap::new();
    // Slots are counted in u32.
    slots.insert_range(0..len as u32);
    slots
}

/// Doubles as integers of the same order; both zeros are one.
fn order_key(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_keys_sort_like_numbers() {
        let numbers = [f64::NEG_INFINITY, -2.5, -1e-300, 0.0, 1e-300, 1.0, 42.0, f64::INFINITY];
        assert!(numbers.is_sorted_by(|a, b| order_key(*a) < order_key(*b)));
        assert_eq!(order_key(-0.0), order_key(0.0));
    }
}
