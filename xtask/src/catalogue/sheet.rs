//! A contact sheet: many products at a glance, each with the author's icon and three of our views.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use rand::seq::SliceRandom;

use super::layout::write_atomically;
use super::scene;

const TILE: u32 = 112;
const COLUMNS: u32 = 5;
const PRODUCTS: usize = 60;

/// Writes a PNG of random products of the finished catalogue at `root`.
pub(crate) fn write(root: &Path, file: &Path, seed: u64) -> Result<()> {
    let table = fs_err::read_to_string(root.join("products.jsonl"))?;
    let mut products: Vec<serde_json::Value> =
        table.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("products.jsonl")?;
    products.shuffle(&mut scene::generator(seed, "", "sheet", 0));
    products.truncate(PRODUCTS);
    products.sort_by_key(|product| product["id"].as_str().and_then(|id| id.parse::<u64>().ok()));

    let rows = (products.len() as u32).div_ceil(COLUMNS);
    let gap = 4;
    let (width, height) = (COLUMNS * (4 * TILE + gap), rows * (TILE + gap));
    let mut sheet = RgbImage::from_pixel(width, height, image::Rgb([128, 0, 128]));
    for (number, product) in (0..).zip(&products) {
        let (x, y) = (number % COLUMNS * (4 * TILE + gap), number / COLUMNS * (TILE + gap));
        let icon = product["icon"].as_str().context("a product without icon")?;
        let query = icon.replace("_icon.", "_query0.");
        let gallery = product["images"].as_array().into_iter().flatten().filter_map(|path| path.as_str());
        let pictures = [icon].into_iter().chain(gallery.take(2)).chain([query.as_str()]);
        for (column, path) in (0..).zip(pictures) {
            // A catalogue without query views leaves their place empty.
            let Ok(bytes) = fs_err::read(root.join(path)) else { continue };
            let picture = image::load_from_memory(&bytes).with_context(|| path.to_owned())?;
            let small = picture.resize(TILE, TILE, image::imageops::FilterType::Triangle).into_rgb8();
            image::imageops::overlay(&mut sheet, &small, i64::from(x + column * TILE), i64::from(y));
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    sheet.write_to(&mut bytes, image::ImageFormat::Png).context("cannot encode the contact sheet")?;
    write_atomically(file, bytes.get_ref())
}
