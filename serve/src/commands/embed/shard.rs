//! One machine's part of a list.

use std::str::FromStr;

/// Part `index` of `count`, 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The shard's items: a run of neighbours, because files that lie together are read together. Sizes differ by at most 1.
    pub(super) fn of<T>(self, items: Vec<T>) -> Vec<T> {
        let start = (self.index - 1) * items.len() / self.count;
        let end = self.index * items.len() / self.count;
        items.into_iter().skip(start).take(end - start).collect()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(format!("{text:?} is not a part such as 3/16, from 1/16 to 16/16")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_together_are_the_whole() {
        for (items, count) in [(0, 3), (2, 3), (10, 3), (100, 7)] {
            let all: Vec<usize> = (0..items).collect();
            let parts: Vec<Vec<usize>> =
                (1..=count).map(|index| Shard { index, count }.of(all.clone())).collect();
            assert_eq!(parts.concat(), all);
            let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
            assert!(sizes.iter().max() <= sizes.iter().min().map(|least| least + 1).as_ref(), "{sizes:?}");
        }
    }

    #[test]
    fn what_is_no_part_is_refused() {
        assert_eq!("3/16".parse(), Ok(Shard { index: 3, count: 16 }));
        for text in ["0/3", "4/3", "1", "1/0", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err_and(|error| error.contains(text)), "{text}");
        }
    }
}
