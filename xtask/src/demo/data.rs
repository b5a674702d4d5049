//! The catalogue that the demo learns and searches: the rendered one, or the user's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::own;
use super::stage::Key;

pub(super) const TRAIN: &str = "Ebay_train.txt";
pub(super) const TEST: &str = "Ebay_test.txt";
const GALLERY: &str = "gallery.txt";
const QUERIES: [&str; 3] = ["query_views.txt", "query_icons.txt", "query.txt"];

/// Lists, and the folder their paths start from.
#[derive(Clone, Debug)]
pub(super) struct Data {
    /// Folder that the lists' paths start from, and that pictures are served from.
    pub(super) root: PathBuf,
    /// Folder with the lists, in which their paths lead to the pictures too.
    pub(super) lists: PathBuf,
    /// What is searched.
    pub(super) gallery: PathBuf,
    /// What is searched with; if there are none, each picture of `test` is searched among the others.
    pub(super) queries: Vec<PathBuf>,
    pub(super) products: Option<PathBuf>,
    /// Extent, for the report.
    pub(super) extent: Extent,
}

/// How large a catalogue is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Extent {
    pub(super) gallery_images: usize,
    pub(super) train_images: usize,
    pub(super) train_products: usize,
    pub(super) test_images: usize,
    pub(super) test_products: usize,
    pub(super) query_images: usize,
    /// Size of the pictures that any list names.
    pub(super) bytes: u64,
}

impl Data {
    /// The catalogue in a folder that has its lists beside its pictures.
    pub(super) fn with_lists(folder: &Path) -> Result<Self> {
        let present = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        for needed in [TRAIN, TEST] {
            ensure!(present(needed).is_some(), "{} is missing", folder.join(needed).display());
        }
        let mut data = Self {
            root: folder.to_owned(),
            lists: folder.to_owned(),
            gallery: present(GALLERY).unwrap_or_else(|| folder.join(TEST)),
            queries: QUERIES.iter().filter_map(|name| present(name)).collect(),
            products: present("products.jsonl"),
            extent: Extent::default(),
        };
        data.measure()?;
        Ok(data)
    }

    /// A user's own catalogue: with Stanford Online Products lists, or one folder of pictures per product. Nothing is
    /// written into it; what is needed is written into `work`.
    pub(super) fn of_user(folder: &Path, work: &Path) -> Result<Self> {
        let folder = fs_err::canonicalize(folder)?;
        ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        if folder.join(TRAIN).is_file() && folder.join(TEST).is_file() {
            return Self::with_lists(&folder);
        }
        own::write_lists(&folder, work).with_context(|| {
            format!(
                "{} has neither {TRAIN} and {TEST} nor a folder of pictures per product",
                folder.display()
            )
        })?;
        Ok(Self { root: folder, ..Self::with_lists(work)? })
    }

    /// The list that is evaluated if there are no queries.
    pub(super) fn test(&self) -> PathBuf {
        self.lists.join(TEST)
    }

    /// What the demo learns from and searches, in a key: the lists, and the size and time of every picture they name.
    pub(super) fn add_to(&self, key: Key, lists: &[&Path]) -> Result<Key> {
        lists.iter().try_fold(key.text(&self.root.to_string_lossy()), |key, list| {
            let mut pictures = Sha256::new();
            for entry in read(list)?.iter() {
                let metadata = std::fs::metadata(self.root.join(&entry.path)).ok();
                let modified = metadata.as_ref().and_then(|m| m.modified().ok());
                pictures.update(format!("{:?} {modified:?}\n", metadata.map(|m| m.len())));
            }
            Ok(key.file(list)?.text(&hex::encode(pictures.finalize())))
        })
    }

    fn measure(&mut self) -> Result<()> {
        let (train, test, gallery) =
            (read(&self.lists.join(TRAIN))?, read(&self.test())?, read(&self.gallery)?);
        let mut queries = Vec::new();
        for list in &self.queries {
            queries.extend(read(list)?);
        }
        let products = |entries: &[Entry]| {
            entries
                .iter()
                .map(|entry| entry.class_id.as_str())
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        let all: std::collections::BTreeSet<&str> = [&train, &test, &gallery, &queries]
            .into_iter()
            .flatten()
            .map(|entry| entry.path.as_str())
            .collect();
        self.extent = Extent {
            gallery_images: gallery.len(),
            train_images: train.len(),
            train_products: products(&train),
            test_images: test.len(),
            test_products: products(&test),
            query_images: queries.len(),
            bytes: all
                .iter()
                .filter_map(|path| std::fs::metadata(self.root.join(path)).ok())
                .map(|m| m.len())
                .sum(),
        };
        ensure!(
            self.extent.train_products >= 2,
            "{} names fewer than two products",
            self.lists.join(TRAIN).display()
        );
        Ok(())
    }

    /// A picture to try the search with: the first query, or the first test picture.
    pub(super) fn example(&self) -> Result<PathBuf> {
        let list = self.queries.last().cloned().unwrap_or_else(|| self.test());
        let entries = read(&list)?;
        let first = entries.first().with_context(|| format!("{} is empty", list.display()))?;
        Ok(self.root.join(&first.path))
    }
}

/// What the demo needs of a line of a list; `dfml` and `dfml-train` read lists strictly and name what is wrong.
struct Entry {
    class_id: String,
    path: String,
}

fn read(list: &Path) -> Result<Vec<Entry>> {
    let text = fs_err::read_to_string(list)?;
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let mut fields = line.trim().splitn(4, [' ', '\t']);
            match (fields.next(), fields.next(), fields.next(), fields.next()) {
                (Some(_), Some(class_id), Some(_), Some(path)) => {
                    Ok(Entry { class_id: class_id.to_owned(), path: path.trim().to_owned() })
                }
                _ => bail!("{}:{}: a line has four fields", list.display(), number + 1),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_lists_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let header = "image_id class_id super_class_id path\n";
        fs_err::write(folder.path().join("a b.jpg"), "12345").unwrap();
        fs_err::write(folder.path().join(TRAIN), format!("{header}1 1 1 a b.jpg\n2 2 1 c.jpg\n")).unwrap();
        fs_err::write(folder.path().join(TEST), format!("{header}3 3 1 d.jpg\n")).unwrap();
        let data = Data::of_user(folder.path(), Path::new("unused")).unwrap();
        assert_eq!(data.gallery, data.test());
        assert_eq!((data.extent.train_products, data.extent.test_images, data.extent.bytes), (2, 1, 5));
        assert!(data.queries.is_empty() && data.products.is_none());
        assert_eq!(data.example().unwrap(), data.root.join("d.jpg"));

        let before = data.add_to(Key::new(""), &[&data.lists.join(TRAIN)]).unwrap();
        fs_err::write(folder.path().join("a b.jpg"), "123456").unwrap();
        let after = data.add_to(Key::new(""), &[&data.lists.join(TRAIN)]).unwrap();
        assert_ne!(format!("{:?}", before.finish()), format!("{:?}", after.finish()));
    }

    #[test]
    fn a_folder_without_pictures_is_an_error_that_names_it() {
        let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let error = format!("{:#}", Data::of_user(folder.path(), work.path()).unwrap_err());
        assert!(error.contains(TRAIN) && error.contains(&*folder.path().to_string_lossy()), "{error}");
    }
}
