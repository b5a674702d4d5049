//! `dfml search`: the products most like an image, in the terminal.

use std::path::PathBuf;

use anyhow::Context as _;
use dfml_index::{Filter, Hit, SearchRequest};
use dfml_serve::settings::Settings;
use serde_json::Value;

use super::{Done, catalogue::CatalogueArgs, options::EngineArgs};

/// Find the products most like an image.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml search chair.jpg --model model --catalogue store
  dfml search chair.jpg --model model --catalogue store -k 5 --category Chairs --json")]
pub(super) struct Args {
    /// The image to search with.
    image: PathBuf,
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    catalogue: CatalogueArgs,
    /// How many products.
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    k: u16,
    /// Only products of this category.
    #[arg(long)]
    category: Option<String>,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let bytes = fs_err::read(&args.image)?;
    let engine = args.engine.load(&args.model, &mut settings)?;
    let index = args.catalogue.open(&settings, engine.manifest())?;
    let vector = engine.embed_bytes(&bytes).with_context(|| args.image.display().to_string())?;
    let request = SearchRequest {
        k: usize::from(args.k),
        filter: args.category.as_deref().map(|category| Filter::equals("category", category)),
        group_by_product: true,
        ..SearchRequest::new(vector)
    };
    let hits = index.search(&request)?;
    if args.json {
        for hit in &hits {
            println!("{}", serde_json::to_string(hit)?);
        }
    } else {
        print_table(&hits);
    }
    Ok(Done::Complete)
}

fn print_table(hits: &[Hit]) {
    if hits.is_empty() {
        println!("no products found");
        return;
    }
    let text = |hit: &Hit, key: &str| hit.metadata.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let width =
        |of: &dyn Fn(&Hit) -> usize, head: &str| hits.iter().map(of).max().unwrap_or(0).max(head.len());
    let id = width(&|hit| hit.product_id.chars().count(), "product");
    let name = width(&|hit| text(hit, "name").chars().count(), "name");
    println!("rank   score  {:id$}  {:name$}  category", "product", "name");
    for (rank, hit) in hits.iter().enumerate() {
        println!(
            "{:4}  {:6.3}  {:id$}  {:name$}  {}",
            rank + 1,
            hit.score,
            hit.product_id,
            text(hit, "name"),
            text(hit, "category")
        );
    }
}
