//! `cargo xtask demo`: the whole way from a catalogue to a server that searches it.

mod data;
mod figures;
mod own;
mod stage;
mod steps;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::setup::{self, Component};
use crate::{catalogue, command};
use data::Data;
use figures::{Report, Trained};
use stage::Stages;
use steps::Steps;

/// Set up, train, export, evaluate, index, calibrate and serve a catalogue; what was done before is not done again
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Without --catalogue, about 800 pieces of furniture are rendered into a catalogue, half of which is never trained on.
A catalogue of one's own is a folder with Ebay_train.txt and Ebay_test.txt in Stanford Online Products layout (gallery.txt,
query_views.txt, query_icons.txt, query.txt and products.jsonl are used if they are there), or one folder of pictures per product.

Examples:
  cargo xtask demo
  cargo xtask demo --no-train
  cargo xtask demo --catalogue ~/shop --port 9000
  cargo xtask demo --once --seeds 1,2,3 --json figures.json")]
pub(crate) struct Args {
    /// Use the pretrained network as it is: libtorch is neither fetched nor built against
    #[arg(long)]
    no_train: bool,
    /// Your own pictures instead of the rendered ones
    #[arg(long, value_name = "DIR")]
    catalogue: Option<PathBuf>,
    /// Stop after the evaluation instead of serving
    #[arg(long)]
    once: bool,
    /// Write the figures to a file: recall before and after by query kind and seed, times, sizes
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Train once per seed; the first one's model is served
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1",
        value_name = "SEED,…",
        conflicts_with = "no_train"
    )]
    seeds: Vec<u64>,
    /// Port to serve on, on this machine only
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Settings of the training
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `cargo xtask demo`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut seeds = if args.no_train { Vec::new() } else { args.seeds.clone() };
    let mut seen = std::collections::BTreeSet::new();
    seeds.retain(|seed| seen.insert(*seed));
    ensure!(args.no_train || !seeds.is_empty(), "--seeds names no seed");
    let config = args.config.clone().unwrap_or_else(|| command::workspace().join("configs/train/demo.toml"));
    if let Some(file) = &args.json {
        // Half an hour later is too late to learn that the file cannot be written.
        fs_err::OpenOptions::new().create(true).append(true).open(file)?;
    }

    let work = work_folder(args)?;
    let mut stages = Stages::new(work.join("records"))?;
    let places = stages.always("set-up", || setup::ensure(&components(args)))?;
    let steps = Steps::new(places, work.clone(), config)?;
    stages.always("build", || steps.build(!args.no_train))?;
    let data = stages.always("catalogue", || open_catalogue(args, &work))?;

    let before_dir = steps.export(&mut stages, &data)?;
    let before = steps.evaluate(&mut stages, &data, &before_dir, "before")?;
    let mut trained = Vec::new();
    for &seed in &seeds {
        let (model, train_seconds) = steps.train(&mut stages, &data, seed)?;
        let after = steps.evaluate(&mut stages, &data, &model, &format!("seed {seed}"))?;
        trained.push(Trained { seed, train_seconds, after });
    }
    let model = seeds.first().map_or(before_dir, |&seed| steps.model_of(seed));
    let store = steps.index(&mut stages, &data, &model)?;
    if !data.queries.is_empty()
        && let Err(error) = steps.calibrate(&mut stages, &data, &model, &store)
    {
        // A small catalogue of one's own may have no wrong hits, or no right ones, to learn from.
        ensure!(args.catalogue.is_some(), error);
        eprintln!("warning: results will have no match probability: {error:#}");
    }

    let lines = figures::compare(&before, &trained);
    println!("\n{}", figures::table(&lines, trained.len()));
    if let Some(file) = &args.json {
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            catalogue: args
                .catalogue
                .as_ref()
                .map_or_else(|| "furniture".to_owned(), |path| path.display().to_string()),
            extent: data.extent.clone(),
            model_bytes: fs_err::metadata(model.join("model.onnx"))?.len(),
            store_bytes: steps::bytes_below(&store)?,
            before,
            seeds: trained,
            summary: lines,
            stages: stages.timings,
        };
        fs_err::write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if args.once {
        return Ok(());
    }
    steps.serve(&data, &model, &store, args.port)
}

fn components(args: &Args) -> Vec<Component> {
    let mut components = setup::BASIC.to_vec();
    if args.catalogue.is_none() {
        components.push(Component::Furniture);
    }
    if !args.no_train {
        components.push(Component::Libtorch);
    }
    components
}

/// Where a catalogue's models and store go: another folder for every catalogue.
fn work_folder(args: &Args) -> Result<PathBuf> {
    let demo = setup::Places::here().cache.join("demo");
    let name = match &args.catalogue {
        None => "furniture".to_owned(),
        Some(folder) => {
            let folder = fs_err::canonicalize(folder).context("--catalogue")?;
            let key = stage::Key::new("own").text(&folder.to_string_lossy()).finish();
            format!("own-{}", &key[..12])
        }
    };
    Ok(demo.join(name))
}

fn open_catalogue(args: &Args, work: &std::path::Path) -> Result<Data> {
    match &args.catalogue {
        Some(folder) => Data::of_user(folder, &work.join("data")),
        None => {
            let options = catalogue::Options::demo(1);
            catalogue::build(&options)?;
            Data::with_lists(&options.out)
        }
    }
}
