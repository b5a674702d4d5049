//! One folder of pictures per product: turned into lists, without writing into it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::data::{TEST, TRAIN};

const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff"];
const HEADER: &str = "image_id class_id super_class_id path\n";
/// Decides which half of the products is never trained on.
const SPLIT_SEED: u64 = 1;

/// Writes lists of the pictures below `folder` into `work`, beside links to what is in `folder`, so that the lists' paths lead to
/// the pictures from there too.
pub(super) fn write_lists(folder: &Path, work: &Path) -> Result<()> {
    let products = products(folder)?;
    ensure!(products.len() >= 4, "{} products are too few to learn from half of them", products.len());
    if work.exists() {
        fs_err::remove_dir_all(work)?;
    }
    fs_err::create_dir_all(work)?;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.path().is_dir() {
            fs_err::os::unix::fs::symlink(entry.path(), work.join(entry.file_name()))?;
        }
    }
    let lists = Lists::of(&products)?;
    fs_err::write(work.join(TRAIN), lists.train)?;
    fs_err::write(work.join(TEST), lists.test)?;
    fs_err::write(work.join("gallery.txt"), lists.gallery)?;
    fs_err::write(work.join("products.jsonl"), lists.products)?;
    Ok(())
}

/// Pictures by product folder, both relative to the catalogue and sorted.
fn products(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>> {
    let mut products: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(folder.join(&next))? {
            let entry = entry?;
            let path = next.join(entry.file_name());
            let kind = fs_err::metadata(entry.path())?;
            if kind.is_dir() && !entry.file_type()?.is_symlink() {
                folders.push(path);
            } else if kind.is_file() && is_picture(&path) && next != Path::new("") {
                products.entry(next.clone()).or_default().push(path);
            }
        }
    }
    for pictures in products.values_mut() {
        pictures.sort();
    }
    Ok(products)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

#[derive(Default)]
struct Lists {
    train: String,
    test: String,
    gallery: String,
    products: String,
}

impl Lists {
    fn of(products: &BTreeMap<PathBuf, Vec<PathBuf>>) -> Result<Self> {
        let mut lists = Self {
            train: HEADER.to_owned(),
            test: HEADER.to_owned(),
            gallery: HEADER.to_owned(),
            products: String::new(),
        };
        let mut is_trained: Vec<bool> = (0..products.len()).map(|index| index % 2 == 0).collect();
        is_trained.shuffle(&mut ChaCha8Rng::seed_from_u64(SPLIT_SEED));
        let mut image_id = 0;
        for ((class_id, (folder, pictures)), is_trained) in (1..).zip(products).zip(is_trained) {
            let name =
                folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let category = folder.parent().filter(|parent| *parent != Path::new(""));
            let category =
                category.map_or_else(|| "all".to_owned(), |parent| parent.to_string_lossy().into_owned());
            let mut paths = Vec::new();
            for picture in pictures {
                let path = picture.to_str().with_context(|| format!("{} is not UTF-8", picture.display()))?;
                ensure!(!path.contains('\n'), "{path:?} has a line break in its name");
                image_id += 1;
                let line =
                    format!("{image_id} {class_id} {} {path}\n", category.replace(char::is_whitespace, "_"));
                lists.gallery.push_str(&line);
                if is_trained { &mut lists.train } else { &mut lists.test }.push_str(&line);
                paths.push(path);
            }
            let id = class_id.to_string();
            writeln!(
                lists.products,
                "{}",
                json!({ "id": id, "name": name, "category": category, "images": paths })
            )
            .context("cannot format a product")?;
        }
        Ok(lists)
    }
}

#[cfg(test)]
mod tests {
    use crate::demo::data::Data;

    #[test]
    fn half_of_the_folders_is_trained_on() {
        let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for product in ["lamps/red lamp", "lamps/blue", "chair", "table", "empty"] {
            fs_err::create_dir_all(folder.path().join(product)).unwrap();
        }
        for picture in [
            "lamps/red lamp/1.jpg",
            "lamps/red lamp/2.PNG",
            "lamps/blue/1.jpg",
            "chair/a.webp",
            "table/x.jpg",
        ] {
            fs_err::write(folder.path().join(picture), picture).unwrap();
        }
        for other in ["readme.txt", "lonely.jpg", "chair/notes.txt"] {
            fs_err::write(folder.path().join(other), "no product").unwrap();
        }
        let data = Data::of_user(folder.path(), &work.path().join("data")).unwrap();
        assert_eq!((data.extent.train_products, data.extent.test_products), (2, 2));
        assert_eq!((data.extent.train_images + data.extent.test_images, data.extent.gallery_images), (5, 5));
        for line in fs_err::read_to_string(&data.gallery).unwrap().lines().skip(1) {
            let path = line.splitn(4, ' ').nth(3).unwrap();
            assert_eq!(fs_err::read_to_string(data.root.join(path)).unwrap(), path);
            assert_eq!(fs_err::read_to_string(data.lists.join(path)).unwrap(), path);
        }
        let products = fs_err::read_to_string(data.products.unwrap()).unwrap();
        assert!(
            products.contains(r#""name":"red lamp""#) && products.contains(r#""category":"lamps""#),
            "{products}"
        );
    }
}
