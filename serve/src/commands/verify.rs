//! `dfml verify`: does the exported model compute what the training network computed?

use std::path::PathBuf;

use anyhow::Context as _;
use dfml_models::Manifest;
use dfml_serve::{
    engine::{Engine, EngineError, KnownAnswers},
    settings::Settings,
};

use super::{Done, options::EngineArgs};

/// Compare a model with the training network on its reference images, and record the result in its manifest.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml verify runs/demo/model")]
pub(super) struct Args {
    /// Model directory.
    #[arg(value_name = "MODEL_DIR")]
    model: PathBuf,
    /// Only compare; leave the manifest as it is.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    args.engine.apply(&mut settings);
    let mut options = settings.engine_options();
    // The full comparison below says more than the start-up test would.
    options.skip_self_test = true;
    let engine =
        Engine::load(&args.model, &options).with_context(|| format!("model {}", args.model.display()))?;
    eprintln!("{}", engine.provider());
    let answers = KnownAnswers::load(&engine)?
        .filter(|answers| !answers.is_empty())
        .ok_or_else(|| EngineError::NoReference { model_dir: args.model.clone() })?;
    let parity = answers.check(&engine, answers.len())?;
    println!(
        "{}: {} reference images, lowest cosine {:.7} (at least {} is required)",
        args.model.display(),
        parity.images,
        parity.min_cosine,
        engine.cosine_min()
    );
    if !args.dry_run {
        let mut manifest: Manifest = engine.manifest().clone();
        manifest.parity = Some(parity);
        manifest.save(&args.model)?;
    }
    Ok(Done::Complete)
}
