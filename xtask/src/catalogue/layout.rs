//! The catalogue's folder: names of pictures, lists, products.jsonl, and what says that a part is complete.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{Rgb, RgbImage, RgbaImage};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::furniture::{Library, Piece};
use super::{Options, RENDER_VERSION, Summary, scene};

/// Says that the catalogue is complete, and what made it.
const MANIFEST: &str = "catalogue.json";

/// Holds one file per finished product.
const STAMPS: &str = ".stamps";

/// A product and where its pictures are, relative to the catalogue.
pub(crate) struct Product {
    pub(crate) class_id: u64,
    super_class_id: usize,
    pub(crate) piece: Piece,
    pub(crate) gallery: Vec<String>,
    pub(crate) queries: Vec<String>,
    pub(crate) icon: String,
}

/// Content of [`MANIFEST`].
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Identifies what decides every pixel: see [`Layout::new`].
    key: String,
    seed: u64,
    summary: Summary,
}

/// Writes and checks the catalogue's folder.
pub(crate) struct Layout {
    root: PathBuf,
    key: String,
    seed: u64,
    views: usize,
    query_views: usize,
}

impl Layout {
    /// Describes the catalogue that `options` make from `libraries`; touches nothing.
    pub(crate) fn new(options: &Options, libraries: &[Library]) -> Self {
        let mut hash = Sha256::new();
        let Options { seed, views, query_views, size, limit, .. } = options;
        hash.update(format!("{RENDER_VERSION} {seed} {views} {query_views} {size} {limit}"));
        for library in libraries {
            hash.update(format!("\n{} {}", library.name, library.sha256));
        }
        Self {
            root: options.out.clone(),
            key: hex::encode(hash.finalize()),
            seed: options.seed,
            views: options.views,
            query_views: options.query_views,
        }
    }

    /// The summary of a catalogue that is already complete and made of the same things.
    pub(crate) fn finished(&self) -> Option<Summary> {
        let text = fs_err::read_to_string(self.root.join(MANIFEST)).ok()?;
        // A manifest of an older format is no error: the catalogue is made anew.
        let manifest: Manifest = serde_json::from_str(&text).ok()?;
        (manifest.key == self.key).then_some(manifest.summary)
    }

    /// Numbers the products from 1 in the order given, and names their pictures.
    pub(crate) fn number(&self, pieces: Vec<Piece>) -> Vec<Product> {
        let categories: BTreeSet<String> = pieces.iter().map(|piece| piece.category.clone()).collect();
        let name = |piece: &Piece, class_id: u64, suffix: &str| {
            format!("{}_final/{class_id}_{suffix}.JPG", slug(&piece.category))
        };
        (1..)
            .zip(pieces)
            .map(|(class_id, piece)| Product {
                class_id,
                super_class_id: 1 + categories.iter().position(|c| *c == piece.category).unwrap_or(0),
                gallery: (0..self.views).map(|i| name(&piece, class_id, &i.to_string())).collect(),
                queries: (0..self.query_views)
                    .map(|i| name(&piece, class_id, &format!("query{i}")))
                    .collect(),
                icon: name(&piece, class_id, "icon"),
                piece,
            })
            .collect()
    }

    /// Makes the folder, and takes away the sign that it is complete.
    pub(crate) fn prepare(&self) -> Result<()> {
        fs_err::create_dir_all(self.root.join(STAMPS))?;
        match fs_err::remove_file(self.root.join(MANIFEST)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether all pictures of a product are there and made of the same things.
    pub(crate) fn is_rendered(&self, product: &Product) -> bool {
        fs_err::read_to_string(self.stamp_path(product)).is_ok_and(|text| text == self.stamp(product))
            && product.pictures().all(|path| self.root.join(path).is_file())
    }

    /// Remembers that all pictures of a product are there.
    pub(crate) fn mark_rendered(&self, product: &Product) -> Result<()> {
        write_atomically(&self.stamp_path(product), self.stamp(product).as_bytes())
    }

    fn stamp_path(&self, product: &Product) -> PathBuf {
        self.root.join(STAMPS).join(product.class_id.to_string())
    }

    fn stamp(&self, product: &Product) -> String {
        format!("{} {}\n", self.key, product.piece.source_id)
    }

    /// Writes a picture as JPEG.
    pub(crate) fn write_picture(&self, path: &str, picture: &RgbImage, quality: u8) -> Result<()> {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode_image(picture)
            .with_context(|| format!("cannot encode {path}"))?;
        write_atomically(&self.root.join(path), &bytes)
    }

    /// Writes all lists and products.jsonl, removes pictures that no list names, and returns how many pictures there
    /// are and how many bytes they have.
    pub(crate) fn write_lists(
        &self,
        products: &[Product],
        duplicates: &[(String, String)],
    ) -> Result<(usize, u64)> {
        let unseen = self.unseen_half(products);
        let mut lists = ["Ebay_train", "Ebay_test", "gallery", "query_views", "query_icons"]
            .map(|name| (name, String::from("image_id class_id super_class_id path\n")));
        let [(_, train), (_, test), (_, gallery), (_, views), (_, icons)] = &mut lists;
        let mut table = String::new();
        let mut image_id = 0;
        for product in products {
            let is_unseen = unseen.contains(&product.class_id);
            let mut line = |path: &String| {
                image_id += 1;
                format!("{image_id} {} {} {path}\n", product.class_id, product.super_class_id)
            };
            for text in product.gallery.iter().map(&mut line) {
                gallery.push_str(&text);
                if is_unseen { &mut *test } else { &mut *train }.push_str(&text);
            }
            let queries: String = product.queries.iter().map(&mut line).collect();
            let icon = line(&product.icon);
            if is_unseen {
                views.push_str(&queries);
                icons.push_str(&icon);
            }
            writeln!(table, "{}", product.describe()).context("cannot format a product")?;
        }
        for (name, text) in &lists {
            write_atomically(&self.root.join(format!("{name}.txt")), text.as_bytes())?;
        }
        let twins: String = duplicates.iter().map(|(id, kept)| format!("{id}\t{kept}\n")).collect();
        write_atomically(&self.root.join("look-alikes.tsv"), format!("left out\tkept\n{twins}").as_bytes())?;
        write_atomically(&self.root.join("products.jsonl"), table.as_bytes())?;
        self.sweep(products)
    }

    /// The half of the products that is never trained on, by the seed's lot.
    fn unseen_half(&self, products: &[Product]) -> HashSet<u64> {
        let mut ids: Vec<u64> = products.iter().map(|product| product.class_id).collect();
        ids.shuffle(&mut scene::generator(self.seed, "", "split", 0));
        ids.split_off(ids.len().div_ceil(2)).into_iter().collect()
    }

    /// Removes pictures of an earlier catalogue in the same place, and counts the others.
    fn sweep(&self, products: &[Product]) -> Result<(usize, u64)> {
        let named: HashSet<PathBuf> =
            products.iter().flat_map(Product::pictures).map(|path| self.root.join(path)).collect();
        let folders: BTreeSet<&Path> = named.iter().filter_map(|path| path.parent()).collect();
        let (mut images, mut bytes) = (0, 0);
        for folder in folders {
            for entry in fs_err::read_dir(folder)? {
                let entry = entry?;
                if named.contains(&entry.path()) {
                    images += 1;
                    bytes += entry.metadata()?.len();
                } else if entry.path().extension().is_some_and(|e| e == "JPG") {
                    fs_err::remove_file(entry.path())?;
                }
            }
        }
        Ok((images, bytes))
    }

    /// Marks the catalogue as complete.
    pub(crate) fn finish(&self, summary: &Summary) -> Result<()> {
        let manifest = Manifest { key: self.key.clone(), seed: self.seed, summary: summary.clone() };
        let text = serde_json::to_string_pretty(&manifest).context("cannot format the manifest")?;
        write_atomically(&self.root.join(MANIFEST), text.as_bytes())
    }
}

impl Product {
    fn pictures(&self) -> impl Iterator<Item = &String> {
        self.gallery.iter().chain(&self.queries).chain(std::iter::once(&self.icon))
    }

    /// The product's line of products.jsonl.
    fn describe(&self) -> serde_json::Value {
        let piece = &self.piece;
        json!({
            "id": self.class_id.to_string(),
            "name": piece.name,
            "category": piece.category,
            "tags": piece.tags,
            "width_cm": rounded(piece.size.x),
            "depth_cm": rounded(piece.size.z),
            "height_cm": rounded(piece.size.y),
            "creator": piece.creator,
            "license": piece.license,
            "source": piece.source_id,
            "images": self.gallery,
            "icon": self.icon,
        })
    }
}

/// Puts a picture with alpha on white, which is how catalogues show it.
pub(crate) fn over_white(picture: &RgbaImage) -> RgbImage {
    let mut flat = RgbImage::new(picture.width(), picture.height());
    for (target, source) in flat.pixels_mut().zip(picture.pixels()) {
        let [r, g, b, a] = source.0.map(u32::from);
        *target = Rgb([r, g, b].map(|v| ((v * a + 255 * (255 - a) + 127) / 255) as u8));
    }
    flat
}

fn rounded(length: f32) -> f64 {
    (f64::from(length) * 100.0).round() / 100.0
}

/// Lower-case letters, digits and underscores.
fn slug(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Temporary files are private by default; these become files that a web server of another user may read.
fn temporary_file() -> tempfile::Builder<'static, 'static> {
    #[allow(unused_mut, reason = "changed on Unix only")]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o644));
    }
    builder
}

/// Writes beside the target and renames, so that nobody ever sees half a file.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().with_context(|| format!("{} has no parent folder", path.display()))?;
    fs_err::create_dir_all(folder)?;
    let mut file = temporary_file()
        .tempfile_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
