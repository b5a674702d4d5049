//! Flags that several commands share.

use std::path::PathBuf;

use anyhow::Context as _;
use dfml_serve::{
    bulk::BulkOptions,
    engine::{Engine, EngineOptions, Provider},
    settings::Settings,
};

/// Where the network is computed.
#[derive(clap::Args, Debug)]
pub(super) struct EngineArgs {
    /// Execution provider.
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// Exit with code 3 unless the network is computed on a GPU.
    #[arg(long)]
    require_gpu: bool,
    /// Threads for computing; every core if not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The ONNX Runtime shared library; found in ORT_DYLIB_PATH or where `cargo xtask setup` puts it if not given.
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
}

impl EngineArgs {
    /// Lays the flags over the settings.
    pub(super) fn apply(&self, settings: &mut Settings) {
        let engine = &mut settings.engine;
        engine.provider = self.provider.unwrap_or(engine.provider);
        engine.require_gpu |= self.require_gpu;
        engine.threads = self.threads.or(engine.threads);
        engine.onnxruntime = self.onnxruntime.clone().or(engine.onnxruntime.take());
    }

    /// Loads a model for one image at a time, and says what it runs on.
    pub(super) fn load(&self, model: &std::path::Path, settings: &mut Settings) -> anyhow::Result<Engine> {
        self.apply(settings);
        load(model, &settings.engine_options())
    }

    /// Loads a model for many images, and says what it runs on.
    pub(super) fn load_bulk(
        &self,
        model: &std::path::Path,
        settings: &mut Settings,
    ) -> anyhow::Result<(Engine, BulkOptions)> {
        self.apply(settings);
        let options = settings.engine_options().for_throughput();
        let engine = load(model, &options)?;
        let bulk = BulkOptions::of(&engine, options.thread_count());
        Ok((engine, bulk))
    }
}

fn load(model: &std::path::Path, options: &EngineOptions) -> anyhow::Result<Engine> {
    let engine = Engine::load(model, options).with_context(|| format!("model {}", model.display()))?;
    tracing::info!(model = %engine.manifest().name, "{}", engine.provider());
    Ok(engine)
}
