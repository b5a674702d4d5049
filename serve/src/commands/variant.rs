//! Cheaper forms of a model: 16-bit, 8-bit, routed. Each is written only with what it costs in retrieval.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use dfml_index::{metrics, sop::SopList};
use dfml_models::{
    Effort, FileHash, Files, Manifest, Parity, Precision, Variant,
    export::{MODEL_FILE, REFERENCE_FILE},
    load_weights,
    onnx::{Network, Ranges},
    sha256_file,
};
use dfml_serve::{
    bulk::BulkOptions,
    engine::{Engine, EngineOptions, KnownAnswers, Library, RangeObserver},
};

use super::{
    eval::{Embedded, Embedder},
    interrupt::Interrupt,
};

/// Which form, and what to measure it on.
#[derive(clap::Args)]
pub(super) struct VariantArgs {
    /// Numbers that the network computes with: fp16 is for GPUs, int8 for processors with 8-bit arithmetic.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Fp32)]
    precision: PrecisionArg,
    /// How much is computed for an image: all sub-blocks, or the ones that the routers choose.
    #[arg(long, value_enum, default_value_t = EffortArg::Dense)]
    effort: EffortArg,
    /// The training run's checkpoint, which has the routers (checkpoint.safetensors).
    #[arg(long, value_name = "FILE", required_if_eq("effort", "routed"))]
    checkpoint: Option<PathBuf>,
    /// List of images by which the scales of an 8-bit network are set; some hundred of them, best the training images.
    #[arg(long, value_name = "LIST")]
    calibrate: Option<PathBuf>,
    /// Most calibration images to use.
    #[arg(long, value_name = "N", default_value_t = 256)]
    calibration_images: usize,
    /// Evaluation set: list of the images that are searched, to measure what a cheaper form costs.
    #[arg(long, value_name = "LIST")]
    gallery: Option<PathBuf>,
    /// Evaluation set: list of the images that are searched with; the gallery's own images if not given.
    #[arg(long, value_name = "LIST", requires = "gallery")]
    queries: Option<PathBuf>,
    /// Write the model even if it loses more than 0.5 points of Recall@1.
    #[arg(long)]
    accept_recall_loss: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PrecisionArg {
    Fp32,
    Fp16,
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EffortArg {
    Dense,
    Routed,
}

/// Points of Recall@1 that a cheaper form may lose without being asked about it.
const RECALL_LOSS_MAX: f64 = 0.5;

impl VariantArgs {
    /// Whether a form other than the full one is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.precision != PrecisionArg::Fp32 || self.effort != EffortArg::Dense
    }

    /// Makes the form of the full model in `base` and writes it to `out`; `None` if interrupted.
    pub(super) fn make(
        &self,
        base: &Path,
        out: &Path,
        options: &EngineOptions,
    ) -> anyhow::Result<Option<Manifest>> {
        let Some(gallery) = &self.gallery else {
            bail!(
                "a cheaper form is measured when it is made: name an evaluation set with --gallery (and --queries)"
            );
        };
        let full = Engine::load(base, options).with_context(|| format!("model {}", base.display()))?;
        ensure!(
            full.manifest().variant.is_none(),
            "{} is a cheaper form itself; give the full model",
            base.display()
        );
        let interrupt = Interrupt::listen()?;
        let network = self.network(&full, options)?;
        let parent = std::path::absolute(out)?.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        fs_err::create_dir_all(&parent)?;
        let staging = tempfile::tempdir_in(parent)?;
        let mut manifest = self.write(&full, &network, staging.path())?;
        let cheap = Engine::load(staging.path(), &EngineOptions { skip_self_test: true, ..options.clone() })?;
        let measured = Measured { full: &full, cheap: &cheap, interrupt, threads: options.thread_count() };
        let Some(mut variant) = measured.compare(gallery, self.queries.as_deref())? else { return Ok(None) };
        variant.calibration_sha256 = self.calibrate.as_deref().map(sha256_file).transpose()?;
        let parity = measured.parity()?;
        variant.reference_cosine = parity.as_ref().map(|parity| parity.min_cosine);
        report(&full, &cheap, &variant);
        if variant.recall_loss_points() > RECALL_LOSS_MAX && !self.accept_recall_loss {
            bail!(
                "it loses {:.2} points of Recall@1, more than {RECALL_LOSS_MAX}: nothing is written; --accept-recall-loss \
                 takes it as it is",
                variant.recall_loss_points()
            );
        }
        (manifest.variant, manifest.parity) = (Some(variant), parity);
        manifest.save(staging.path())?;
        move_into_place(staging, out)?;
        Ok(Some(manifest))
    }

    fn network(&self, full: &Engine, options: &EngineOptions) -> anyhow::Result<Network> {
        let manifest = full.manifest();
        let mut network = Network::read(manifest.model_path(full.model_dir()))?;
        if self.effort == EffortArg::Routed {
            let Some(checkpoint) = &self.checkpoint else { bail!("--effort routed needs --checkpoint") };
            let weights = load_weights(checkpoint)?;
            network = network
                .to_routed(&manifest.architecture, &weights)
                .with_context(|| checkpoint.display().to_string())?;
        }
        Ok(match self.precision {
            PrecisionArg::Fp32 => network,
            PrecisionArg::Fp16 => network.to_half(),
            PrecisionArg::Int8 => network.to_int8(&self.ranges(full, &network, options)?)?,
        })
    }

    /// The range of values that the calibration images give each tensor; empty if no tensor needs one.
    fn ranges(&self, full: &Engine, network: &Network, options: &EngineOptions) -> anyhow::Result<Ranges> {
        const BATCH: usize = 8;
        let library = Library::load(options.library.as_deref(), options.provider)?;
        let observer = RangeObserver::open(network, full.manifest(), &library, options.thread_count())?;
        let Some(mut observer) = observer else { return Ok(Ranges::new()) };
        let Some(list) = &self.calibrate else {
            bail!("8-bit convolutions need images to set their scales by: name a list with --calibrate");
        };
        let sop = SopList::read(list, None)?;
        // Spread over the list, which is sorted by class.
        let step = (sop.entries.len() / self.calibration_images.max(1)).max(1);
        let per_image = full.pixels_per_image();
        let (mut pixels, mut used) = (Vec::new(), 0);
        for entry in sop.entries.iter().step_by(step).take(self.calibration_images) {
            let path = sop.root.join(&entry.path);
            let start = pixels.len();
            pixels.resize(start + per_image, 0.0);
            if let Err(error) = full.preprocess_into(&fs_err::read(&path)?, &mut pixels[start..]) {
                eprintln!("warning: {}:{}: {}: {error}", list.display(), entry.line, path.display());
                pixels.truncate(start);
            }
            if pixels.len() == BATCH * per_image {
                used += BATCH;
                observer.watch(&pixels, BATCH)?;
                pixels.clear();
            }
        }
        let rest = pixels.len() / per_image;
        if rest > 0 {
            observer.watch(&pixels, rest)?;
        }
        ensure!(used + rest > 0, "{}: no image could be read", list.display());
        Ok(observer.into_ranges())
    }

    /// The model directory as far as it is known before measuring.
    fn write(&self, full: &Engine, network: &Network, dir: &Path) -> anyhow::Result<Manifest> {
        network.write(dir.join(MODEL_FILE))?;
        let base = full.manifest();
        if let Some(reference) = &base.files.reference {
            fs_err::copy(full.model_dir().join(&reference.name), dir.join(REFERENCE_FILE))?;
        }
        let reference =
            base.files.reference.as_ref().map(|_| FileHash::of(dir, REFERENCE_FILE)).transpose()?;
        let manifest = Manifest {
            files: Files { model: FileHash::of(dir, MODEL_FILE)?, reference },
            precision: match self.precision {
                PrecisionArg::Fp32 => Precision::Fp32,
                PrecisionArg::Fp16 => Precision::Fp16,
                PrecisionArg::Int8 => Precision::Int8,
            },
            effort: match self.effort {
                EffortArg::Dense => Effort::Dense,
                EffortArg::Routed => Effort::Routed,
            },
            parity: None,
            // Of another function.
            evaluation: Vec::new(),
            ..base.clone()
        };
        manifest.save(dir)?;
        Ok(manifest)
    }
}

/// Both forms, to be compared.
struct Measured<'a> {
    full: &'a Engine,
    cheap: &'a Engine,
    interrupt: Interrupt,
    threads: usize,
}

impl Measured<'_> {
    fn compare(&self, gallery: &Path, queries: Option<&Path>) -> anyhow::Result<Option<Variant>> {
        let read = |path: &Path| SopList::read(path, None).map(|list| (path.to_path_buf(), list));
        let lists: Vec<_> =
            [Some(gallery), queries].into_iter().flatten().map(read).collect::<Result<_, _>>()?;
        let (Some(before), Some(after)) = (self.embed(self.full, &lists)?, self.embed(self.cheap, &lists)?)
        else {
            return Ok(None);
        };
        let (before_recall, images) = recall_at_1(&before)?;
        let (recall, _) = recall_at_1(&after)?;
        let names: Vec<String> = lists.iter().rev().map(|(path, _)| super::eval::name(path)).collect();
        Ok(Some(Variant {
            of: self.full.manifest().fingerprint(),
            dataset: names.join(" in "),
            queries: images.0,
            gallery: images.1,
            recall_at_1_before: before_recall,
            recall_at_1: recall,
            mean_cosine: mean_cosine(&before, &after),
            reference_cosine: None,
            calibration_sha256: None,
        }))
    }

    fn embed(&self, engine: &Engine, lists: &[(PathBuf, SopList)]) -> anyhow::Result<Option<Vec<Embedded>>> {
        let bulk = BulkOptions::of(engine, self.threads);
        let embedder = Embedder { engine, bulk, interrupt: self.interrupt.clone() };
        lists.iter().map(|(path, list)| embedder.embed(path, list)).collect()
    }

    /// Agreement with the training network on the reference images, whatever it is.
    fn parity(&self) -> anyhow::Result<Option<Parity>> {
        let answers = KnownAnswers::load(self.cheap)?.filter(|answers| !answers.is_empty());
        Ok(answers.map(|answers| answers.measure(self.cheap)).transpose()?)
    }
}

/// Recall@1, and the number of queries and of gallery images.
fn recall_at_1(sets: &[Embedded]) -> anyhow::Result<(f64, (usize, usize))> {
    let Some((gallery, queries)) = sets.split_first() else { bail!("there is no gallery") };
    let found = metrics::evaluate(gallery.labelled(), queries.first().map(Embedded::labelled), &[1])?;
    Ok((found.recall_at_k.get(&1).copied().unwrap_or(0.0), (found.queries, found.gallery)))
}

/// Of unit vectors of the same images.
fn mean_cosine(before: &[Embedded], after: &[Embedded]) -> f64 {
    let values = |sets: &'_ [Embedded]| sets.iter().flat_map(|set| set.vectors.clone()).collect::<Vec<f32>>();
    let rows: usize = before.iter().map(|set| set.classes.len()).sum();
    let dot: f64 = values(before).iter().zip(values(after)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum();
    dot / rows.max(1) as f64
}

fn report(full: &Engine, cheap: &Engine, variant: &Variant) {
    println!(
        "{} ({} queries, {} gallery images): Recall@1 {:.4} -> {:.4}, a loss of {:.2} points; mean cosine {:.5}",
        variant.dataset,
        variant.queries,
        variant.gallery,
        variant.recall_at_1_before,
        variant.recall_at_1,
        variant.recall_loss_points(),
        variant.mean_cosine
    );
    let [full, cheap] = [full, cheap].map(|engine| engine.provider().probe_images_per_second);
    println!(
        "probe at load: {full:.0} -> {cheap:.0} images/s in one session; `dfml bench embed` measures better"
    );
}

/// Replaces a model directory as a whole.
fn move_into_place(staging: tempfile::TempDir, out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        ensure!(out.join("manifest.json").is_file(), "{} exists and is no model directory", out.display());
        fs_err::remove_dir_all(out)?;
    }
    let made = staging.keep();
    // A temporary folder is its owner's alone; a model is as readable as what is around it.
    #[cfg(unix)]
    fs_err::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(fs_err::rename(made, out)?)
}
