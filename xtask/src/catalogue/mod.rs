//! The demo catalogue: renders a furniture library into product photographs in Stanford Online Products layout.
//!
//! Every piece of furniture becomes a product (class) with gallery views, query views drawn by another lot, and the
//! author's own icon as a second kind of query, which no code here drew. Half of the products are set aside for
//! testing: `Ebay_train.txt` never names them. Pieces that look alike from all sides count as one product
//! ([`duplicates`]), so that "the same product" has one meaning.

mod backdrop;
mod camera;
mod duplicates;
mod furniture;
mod layout;
mod mesh;
mod noise;
mod progress;
mod raster;
mod render;
mod scene;
mod shade;
mod sheet;
#[cfg(test)]
mod tests;
mod texture;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use duplicates::Signature;
use furniture::{Library, Piece};
use layout::{Layout, Product};
use mesh::Mesh;
use progress::Progress;
use scene::{Scene, Shape, ViewKind};

/// Counts changes of the renderer that change pixels; a catalogue of another version is rendered anew.
const RENDER_VERSION: u32 = 2;

/// Command line of `cargo xtask catalogue`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with the .sh3f furniture libraries [default: furniture-1.8-1 in the cache]
    #[arg(long, value_name = "DIR")]
    furniture: Option<PathBuf>,
    /// Where the catalogue goes [default: demo/catalogue in the cache]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Decides every camera, light, backdrop and the split into halves
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Gallery views per product
    #[arg(long, default_value_t = 8)]
    views: usize,
    /// Query views per product
    #[arg(long, default_value_t = 2)]
    query_views: usize,
    /// Edge of the pictures in pixels
    #[arg(long, default_value_t = 256)]
    size: u32,
    /// Only so many products (0: all), for trying things out
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// Renders every product again
    #[arg(long)]
    force: bool,
    /// Also writes an overview of 60 products: the icon and three views of each
    #[arg(long, value_name = "FILE.png")]
    contact_sheet: Option<PathBuf>,
}

/// What [`build`] renders, from where to where.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) furniture: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) seed: u64,
    pub(crate) views: usize,
    pub(crate) query_views: usize,
    /// Edge of the pictures in pixels.
    pub(crate) size: u32,
    /// Only so many products; 0 for all.
    pub(crate) limit: usize,
    /// Whether to render products again that are already there.
    pub(crate) force: bool,
}

impl Options {
    /// The demo's settings, in the cache folder.
    pub(crate) fn demo(seed: u64) -> Self {
        let cache = dfml_models::cache_dir();
        Self {
            furniture: cache.join("furniture-1.8-1"),
            out: cache.join("demo").join("catalogue"),
            seed,
            views: 8,
            query_views: 2,
            size: 256,
            limit: 0,
            force: false,
        }
    }
}

/// What a catalogue holds, and what it took.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Summary {
    pub(crate) products: usize,
    /// Pictures of all kinds, icons included.
    pub(crate) images: usize,
    /// Size of all pictures.
    pub(crate) bytes: u64,
    /// Pieces left out because another one looks the same.
    pub(crate) duplicates: usize,
    /// Pieces left out because their model cannot be read.
    pub(crate) unreadable: usize,
    /// Wall-clock seconds of the rendering.
    pub(crate) seconds: f64,
}

/// Runs `cargo xtask catalogue`.
pub(crate) fn run(args: Args) -> Result<()> {
    let demo = Options::demo(args.seed);
    let options = Options {
        furniture: args.furniture.unwrap_or(demo.furniture),
        out: args.out.unwrap_or(demo.out),
        seed: args.seed,
        views: args.views,
        query_views: args.query_views,
        size: args.size,
        limit: args.limit,
        force: args.force,
    };
    let summary = build(&options)?;
    println!(
        "{}: {} products, {} pictures, {:.1} MB, rendered in {:.0} s ({} look-alikes and {} unreadable models left out)",
        options.out.display(),
        summary.products,
        summary.images,
        summary.bytes as f64 / 1e6,
        summary.seconds,
        summary.duplicates,
        summary.unreadable,
    );
    if let Some(file) = args.contact_sheet {
        sheet::write(&options.out, &file, options.seed)?;
        println!("contact sheet: {}", file.display());
    }
    Ok(())
}

/// Renders the catalogue, or what is missing of it, and returns what it holds.
///
/// The result depends on the options and the libraries only, not on the number of threads. An interrupted run goes on
/// where it stopped; lists are written last, so that a catalogue with lists is complete.
pub(crate) fn build(options: &Options) -> Result<Summary> {
    ensure!((32..=2048).contains(&options.size), "--size {} is not within 32..=2048 pixels", options.size);
    ensure!((1..=1000).contains(&options.views), "--views {} is not within 1..=1000", options.views);
    ensure!(options.query_views <= 1000, "--query-views {} is more than 1000", options.query_views);
    let started = Instant::now();
    let mut libraries = furniture::open_all(&options.furniture)
        .with_context(|| "no furniture to render; `cargo xtask setup` fetches it")?;
    let layout = Layout::new(options, &libraries);
    if !options.force
        && let Some(summary) = layout.finished()
    {
        return Ok(summary);
    }

    let mut pieces = Vec::new();
    for (index, library) in libraries.iter_mut().enumerate() {
        pieces.extend(library.pieces(index)?);
    }
    if options.limit > 0 {
        pieces.truncate(options.limit);
    }
    let plan = plan(pieces, &libraries);
    let products = layout.number(plan.pieces);
    layout.prepare()?;

    let progress = Progress::new("rendering", products.len());
    products.par_iter().try_for_each_init(
        || libraries.clone(),
        |libraries, product| {
            if options.force || !layout.is_rendered(product) {
                render_product(options, &layout, &mut libraries[product.piece.library], product)
                    .with_context(|| format!("product {} ({})", product.class_id, product.piece.source_id))?;
            }
            progress.step();
            Ok::<(), anyhow::Error>(())
        },
    )?;
    progress.finish();
    let (images, bytes) = layout.write_lists(&products, &plan.duplicates)?;
    let summary = Summary {
        products: products.len(),
        images,
        bytes,
        duplicates: plan.duplicates.len(),
        unreadable: plan.unreadable,
        seconds: started.elapsed().as_secs_f64(),
    };
    layout.finish(&summary)?;
    Ok(summary)
}

/// Which pieces become products.
struct Plan {
    pieces: Vec<Piece>,
    /// Source ids: the piece left out, and the one it looks like.
    duplicates: Vec<(String, String)>,
    unreadable: usize,
}

/// Looks at every piece from the same sides, and keeps the first of those that look alike.
fn plan(pieces: Vec<Piece>, libraries: &[Library]) -> Plan {
    let progress = Progress::new("comparing", pieces.len());
    let signatures: Vec<Option<Signature>> = pieces
        .par_iter()
        .map_init(
            || libraries.to_vec(),
            |libraries, piece| {
                let signature = load(&mut libraries[piece.library], piece)
                    .map(|mesh| Signature::of(&mesh, &shape(piece, &mesh)))
                    .inspect_err(|error| {
                        progress.note(&format!("{} is left out: {error:#}", piece.source_id))
                    })
                    .ok();
                progress.step();
                signature
            },
        )
        .collect();
    progress.finish();
    let unreadable = signatures.iter().filter(|s| s.is_none()).count();
    let likeness = duplicates::find(&signatures);
    let mut plan = Plan { pieces: Vec::new(), duplicates: Vec::new(), unreadable };
    for (index, piece) in pieces.iter().enumerate() {
        match likeness[index] {
            Some(first) => plan.duplicates.push((piece.source_id.clone(), pieces[first].source_id.clone())),
            None if signatures[index].is_some() => plan.pieces.push(piece.clone()),
            None => {}
        }
    }
    plan
}

fn shape(piece: &Piece, mesh: &Mesh) -> Shape {
    Shape { size: mesh.size, elevation: piece.elevation }
}

/// Reads a piece's model with its materials and textures.
fn load(library: &mut Library, piece: &Piece) -> Result<Mesh> {
    let obj = library.read(&piece.model)?;
    let folder = piece.model.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let mut read = |name: &str| library.read(&format!("{folder}/{name}"));
    Mesh::load(&obj, &mut read, piece.rotation, piece.size)
        .with_context(|| format!("model {} of library {}", piece.model, piece.library))
}

/// Renders all views of one product, copies its icon, and marks it as done.
fn render_product(
    options: &Options,
    layout: &Layout,
    library: &mut Library,
    product: &Product,
) -> Result<()> {
    let piece = &product.piece;
    let mesh = load(library, piece)?;
    let shape = shape(piece, &mesh);
    let gallery = (0..options.views).map(|index| (ViewKind::Gallery, index));
    let queries = (0..options.query_views).map(|index| (ViewKind::Query, index));
    for ((kind, index), path) in gallery.chain(queries).zip(product.gallery.iter().chain(&product.queries)) {
        let scene = Scene::draw(options.seed, &piece.source_id, kind, index, &shape);
        let picture = render::render(&mesh, &shape, &scene, options.size);
        layout.write_picture(path, &picture, scene.quality)?;
    }
    let icon = library.read(&piece.icon)?;
    let icon = image::load_from_memory(&icon).with_context(|| format!("icon {}", piece.icon))?;
    layout.write_picture(&product.icon, &layout::over_white(&icon.into_rgba8()), 95)?;
    layout.mark_rendered(product)
}
