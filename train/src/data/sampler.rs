//! Which images go into which batch of an epoch.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The batches of one epoch, as indices into `labels`; equal seeds and epochs give equal batches.
///
/// With `images_per_class` 0 every image comes once, in random order; an incomplete last batch is dropped (as the
/// official code does) unless it is the only one. Otherwise each batch holds `batch_size / images_per_class` classes with `images_per_class`
/// images each, drawn without repetition where the class has enough (the official balanced sampler).
pub fn epoch_batches(
    labels: &[usize],
    batch_size: usize,
    images_per_class: usize,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    if images_per_class == 0 {
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.shuffle(&mut rng);
        if order.len() < batch_size {
            return vec![order];
        }
        return order.chunks_exact(batch_size).map(<[usize]>::to_vec).collect();
    }
    let classes = labels.iter().max().map_or(0, |max| max + 1);
    let mut members = vec![Vec::new(); classes];
    for (image, &label) in labels.iter().enumerate() {
        members[label].push(image);
    }
    let per_batch = (batch_size / images_per_class).clamp(1, classes.max(1));
    let steps = (labels.len() / batch_size).max(1);
    let mut order: Vec<usize> = (0..classes).collect();
    (0..steps)
        .map(|_| {
            order.shuffle(&mut rng);
            let draw = |&class: &usize, rng: &mut ChaCha8Rng| draw(&members[class], images_per_class, rng);
            order.iter().take(per_batch).flat_map(|class| draw(class, &mut rng)).collect()
        })
        .collect()
}

/// `count` of `members`, without repetition where there are enough.
fn draw(members: &[usize], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    if members.len() < count {
        return (0..count).map(|_| members[rng.random_range(0..members.len())]).collect();
    }
    let mut members = members.to_vec();
    let (chosen, _) = members.partial_shuffle(rng, count);
    chosen.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_batches_hold_every_image_once_and_repeat_by_seed() {
        let labels: Vec<usize> = (0..100).map(|i| i / 4).collect();
        let batches = epoch_batches(&labels, 25, 0, 7, 1);
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(batches, epoch_batches(&labels, 25, 0, 7, 1));
        assert_ne!(batches, epoch_batches(&labels, 25, 0, 7, 2));
        assert_ne!(batches, epoch_batches(&labels, 25, 0, 8, 1));
    }

    #[test]
    fn balanced_batches_hold_the_asked_images_per_class() {
        let labels: Vec<usize> = (0..60).map(|i| i / 6).collect();
        for batch in epoch_batches(&labels, 12, 3, 1, 0) {
            let mut counts = [0; 10];
            batch.iter().for_each(|&i| counts[labels[i]] += 1);
            assert_eq!(counts.iter().filter(|&&n| n == 3).count(), 4, "{counts:?}");
            assert_eq!(batch.len(), 12);
        }
    }
}
