//! `dfml info`: what a model is, what it runs on, what a store holds.

use std::path::PathBuf;

use dfml_serve::settings::Settings;
use serde_json::json;

use super::{Done, options::EngineArgs};

/// Show what a model is and what it would run on here.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml info --model model\n  dfml info --model model --json")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let engine = args.engine.load(&args.model, &mut settings)?;
    let (manifest, provider) = (engine.manifest(), engine.provider());
    if args.json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "fingerprint": manifest.fingerprint(),
            "manifest": manifest,
            "provider": provider,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(Done::Complete);
    }
    let transform = &manifest.transform;
    println!("model        {}", manifest.name);
    println!("fingerprint  {}", manifest.fingerprint());
    println!("embedding    {} dimensions", manifest.embedding_dim);
    println!(
        "image        short side {}, crop {} x {} (width x height)",
        transform.resize_short, transform.crop_width, transform.crop_height
    );
    match &manifest.parity {
        Some(parity) => println!(
            "parity       cosine >= {:.7} to the training network on {} images ({}, {})",
            parity.min_cosine, parity.images, parity.runtime, parity.provider
        ),
        None => println!("parity       not verified; run `dfml verify`"),
    }
    for evaluation in &manifest.evaluation {
        println!("evaluation   {}: {}", evaluation.dataset, super::eval::one_line(evaluation));
    }
    println!("provider     {} (requested {})", provider.active, provider.requested);
    println!("reason       {}", provider.reason);
    println!("runtime      {}", provider.runtime);
    println!("speed        {:.0} images/s in the probe at load", provider.probe_images_per_second);
    Ok(Done::Complete)
}
