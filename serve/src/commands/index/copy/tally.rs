//! Whether two catalogues are the same: what is in them is added up, and a sample of the vectors compared.

use std::{collections::HashMap, time::Instant};

use anyhow::bail;
use dfml_index::{Item, VectorIndex};
use sha2::{Digest, Sha256};

use super::{Interrupt, PAGE, Progress};

/// What a walk through a catalogue adds up to, whatever its order.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) items: usize,
    pub(super) sum: u128,
    pub(super) samples: HashMap<String, Item>,
}

impl Tally {
    /// Adds an item; every `each`th one, by its id, is kept.
    pub(super) fn add(&mut self, item: &Item, each: usize) {
        let metadata = serde_json::Value::Object(item.metadata.clone()).to_string();
        let parts = [item.id.as_str(), &item.product_id, &metadata];
        let digest = parts.iter().fold(Sha256::new(), |digest, part| {
            digest.chain_update((part.len() as u64).to_le_bytes()).chain_update(part)
        });
        let mut half = [0; 16];
        half.copy_from_slice(&digest.finalize()[..16]);
        let number = u128::from_le_bytes(half);
        self.items += 1;
        self.sum = self.sum.wrapping_add(number);
        if number % (each.max(1) as u128) == 0 {
            self.samples.insert(item.id.clone(), item.clone());
        }
    }
}

/// Adds up a catalogue; `None` if interrupted.
pub(super) fn tally(
    index: &dyn VectorIndex,
    each: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<Tally>> {
    let (mut progress, start) = (Progress::new("checking", index.count()?), Instant::now());
    let (mut found, mut after) = (Tally::default(), None::<String>);
    loop {
        if interrupt.requested() {
            return Ok(None);
        }
        let page = index.page(after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        page.iter().for_each(|item| {
            found.add(item, each);
            progress.step();
        });
    }
    progress.finish();
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    println!(
        "checking: {} items in {seconds:.1} s, {:.0} items/s",
        found.items,
        found.items as f64 / seconds
    );
    Ok(Some(found))
}

/// Refuses a copy that is not what was copied.
pub(super) fn compare(copied: &Tally, found: &Tally) -> anyhow::Result<()> {
    if copied.items != found.items {
        bail!("{} items there, and {} here", copied.items, found.items);
    }
    if copied.sum != found.sum {
        bail!("the checksums of ids, products and metadata are {:032x} and {:032x}", copied.sum, found.sum);
    }
    for (id, item) in &copied.samples {
        if !found.samples.get(id).is_some_and(|found| found.is_same(item)) {
            bail!("the vector of {id:?} is another");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, product: &str) -> Item {
        Item { id: id.into(), product_id: product.into(), vector: vec![1.0], ..Item::default() }
    }

    fn tally_of(items: &[Item]) -> Tally {
        let mut tally = Tally::default();
        items.iter().for_each(|item| tally.add(item, 1));
        tally
    }

    #[test]
    fn a_tally_sees_everything_but_the_order() {
        let whole = tally_of(&[item("a", "p"), item("b", "q")]);
        assert!(compare(&whole, &tally_of(&[item("b", "q"), item("a", "p")])).is_ok());
        assert!(compare(&whole, &tally_of(&[item("a", "p")])).is_err());
        assert!(compare(&whole, &tally_of(&[item("a", "p"), item("b", "r")])).is_err());
        assert!(
            compare(&whole, &tally_of(&[item("ap", ""), item("b", "q")])).is_err(),
            "parts do not run together"
        );
        let other = Item { vector: vec![-1.0], ..item("b", "q") };
        assert!(compare(&whole, &tally_of(&[item("a", "p"), other])).is_err());
    }
}
