//! The engine: sessions on one model, from pixels or image bytes to unit vectors.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use dfml_models::{DecodeLimits, Manifest};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::{TensorRef, ValueType},
};

use super::{EngineError, KnownAnswers, Library, Provider, ProviderReport, pool::Pool};

/// Images in the timed run at load.
const PROBE_BATCH: usize = 4;
/// The timed run ends after this long, or after [`PROBE_RUNS`].
const PROBE_TIME_MAX: Duration = Duration::from_millis(400);
const PROBE_RUNS: u32 = 8;
/// Reference images compared at every load; `dfml verify` compares all of them.
const SELF_TEST_IMAGES: usize = 4;

/// How an engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where to compute.
    pub provider: Provider,
    /// Refuse to load ([`EngineError::GpuRequired`]) unless the active provider is a GPU.
    pub require_gpu: bool,
    /// Threads in all, shared out over the sessions; `None` means every core.
    pub threads: Option<usize>,
    /// Sessions side by side; `None` means one, which answers a single request soonest. One per core, with one thread
    /// each, does the most work per second ([`EngineOptions::for_throughput`]).
    pub sessions: Option<usize>,
    /// The ONNX Runtime library; `None` looks in the usual places, see [`super::resolve_library`].
    pub library: Option<PathBuf>,
    /// Bounds on the images that [`Engine::embed_bytes`] decodes.
    pub decode_limits: DecodeLimits,
    /// Load a model even if it does not reproduce its known answers. Only for measuring by how much it misses them.
    pub skip_self_test: bool,
}

impl EngineOptions {
    /// The same options for bulk work: one single-threaded session per thread, so that no thread ever waits for
    /// another one inside an operator.
    pub fn for_throughput(mut self) -> Self {
        self.sessions = Some(self.thread_count());
        self
    }

    /// The threads in all, resolved.
    pub fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

/// A loaded model: embeds images on as many sessions as it was given. Shared between threads by reference.
pub struct Engine {
    model_dir: PathBuf,
    manifest: Manifest,
    report: ProviderReport,
    sessions: Pool<Session>,
    decode_limits: DecodeLimits,
}

impl Engine {
    /// Loads the model directory's network into ONNX Runtime, times it, and checks it against its known answers.
    ///
    /// A provider that was asked for and cannot be used is reported ([`Engine::provider`], and a warning in the log)
    /// and the CPU takes its place; with [`EngineOptions::require_gpu`] it is an error instead.
    ///
    /// # Errors
    /// See [`EngineError`]: a missing library, a manifest that does not fit its files, a model that ONNX Runtime refuses, a
    /// required GPU that is not there, or a model that does not reproduce its reference embeddings.
    pub fn load(model_dir: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let manifest = Manifest::load(model_dir)?;
        let library = Library::load(options.library.as_deref())?;
        let model = manifest.model_path(model_dir);
        let count = options.sessions.unwrap_or(1).max(1);
        let threads = (options.thread_count() / count).max(1);
        let opened = open_sessions(&library, &model, options.provider, count, threads)?;
        if options.require_gpu && !opened.active.is_gpu() {
            return Err(EngineError::GpuRequired {
                requested: options.provider,
                active: opened.active,
                reason: opened.reason,
            });
        }
        for session in &opened.sessions {
            check_signature(session, &model, &manifest)?;
        }
        let mut engine = Self {
            model_dir: model_dir.to_path_buf(),
            report: ProviderReport {
                requested: options.provider.to_string(),
                active: opened.active.to_string(),
                reason: opened.reason,
                runtime: format!("ONNX Runtime {}", library.version()),
                sessions: count,
                threads: if opened.active.is_gpu() { 0 } else { threads },
                probe_images_per_second: 0.0,
            },
            manifest,
            sessions: Pool::new(opened.sessions),
            decode_limits: options.decode_limits,
        };
        engine.report.probe_images_per_second = engine.probe()?;
        if !options.skip_self_test {
            engine.self_test()?;
        }
        Ok(engine)
    }

    /// The directory the model was loaded from.
    pub fn model_dir(&self) -> &Path {
        &self.model_dir
    }

    /// What the model is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it runs on.
    pub fn provider(&self) -> &ProviderReport {
        &self.report
    }

    /// The bounds on images that are decoded.
    pub fn decode_limits(&self) -> &DecodeLimits {
        &self.decode_limits
    }

    /// How many batches can be computed at the same time.
    pub fn sessions(&self) -> usize {
        self.sessions.size()
    }

    /// Values in one image's pixels: `3 * crop_height * crop_width`.
    pub fn pixels_per_image(&self) -> usize {
        self.manifest.transform.output_len()
    }

    /// Decodes, resizes, crops and normalises an image into `pixels`, `[3, height, width]`.
    ///
    /// # Errors
    /// [`EngineError::Decode`] for bytes that are no image or exceed the limits; [`EngineError::PixelCount`] if `pixels`
    /// is not [`Engine::pixels_per_image`] long.
    pub fn preprocess_into(&self, bytes: &[u8], pixels: &mut [f32]) -> Result<(), EngineError> {
        self.check_pixels(pixels.len(), 1)?;
        Ok(self.manifest.transform.apply_into(bytes, &self.decode_limits, pixels)?)
    }

    /// Embeds `n` images: `pixels` is `[n, 3, height, width]`, normalised; the result is `n` unit vectors of
    /// `manifest().embedding_dim` values.
    ///
    /// # Errors
    /// [`EngineError::PixelCount`] and [`EngineError::Inference`].
    pub fn embed_pixels(&self, pixels: &[f32], n: usize) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check_pixels(pixels.len(), n)?;
        if n == 0 {
            return Ok(Vec::new());
        }
        let transform = &self.manifest.transform;
        let shape = [n, 3, transform.crop_height as usize, transform.crop_width as usize];
        let dim = self.manifest.embedding_dim;
        let inference = |error: ort::Error| EngineError::Inference { reason: error.to_string() };
        let input = TensorRef::from_array_view((shape, pixels)).map_err(inference)?;
        let mut session = self.sessions.take();
        let outputs = session.run(ort::inputs!["pixels" => input]).map_err(inference)?;
        let (shape, values) = outputs["embedding"].try_extract_tensor::<f32>().map_err(inference)?;
        if values.len() != n * dim {
            return Err(EngineError::Inference {
                reason: format!("the model returned {shape:?} for {n} images of {dim} dimensions"),
            });
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            let reason = format!("value {} of embedding {} is not a number", position % dim, position / dim);
            return Err(EngineError::Inference { reason });
        }
        Ok(values.chunks_exact(dim).map(<[f32]>::to_vec).collect())
    }

    /// Embeds one image file's bytes.
    ///
    /// # Errors
    /// As [`Engine::preprocess_into`] and [`Engine::embed_pixels`].
    pub fn embed_bytes(&self, bytes: &[u8]) -> Result<Vec<f32>, EngineError> {
        let mut pixels = vec![0.0; self.pixels_per_image()];
        self.preprocess_into(bytes, &mut pixels)?;
        let mut vectors = self.embed_pixels(&pixels, 1)?;
        vectors
            .pop()
            .ok_or_else(|| EngineError::Inference { reason: "the model returned nothing".to_owned() })
    }

    fn check_pixels(&self, found: usize, images: usize) -> Result<(), EngineError> {
        let expected = images.saturating_mul(self.pixels_per_image());
        if found == expected { Ok(()) } else { Err(EngineError::PixelCount { images, expected, found }) }
    }

    /// Runs the network for a moment: warms it up, and tells its images per second.
    fn probe(&self) -> Result<f64, EngineError> {
        let pixels = vec![0.0; PROBE_BATCH * self.pixels_per_image()];
        self.embed_pixels(&pixels, PROBE_BATCH)?;
        let (start, mut runs) = (Instant::now(), 0);
        while runs == 0 || (runs < PROBE_RUNS && start.elapsed() < PROBE_TIME_MAX) {
            self.embed_pixels(&pixels, PROBE_BATCH)?;
            runs += 1;
        }
        Ok(f64::from(runs) * PROBE_BATCH as f64 / start.elapsed().as_secs_f64())
    }

    fn self_test(&self) -> Result<(), EngineError> {
        match KnownAnswers::load(self)? {
            Some(answers) => answers.check(self, SELF_TEST_IMAGES).map(drop),
            None => Ok(()),
        }
    }
}

struct Opened {
    sessions: Vec<Session>,
    active: Provider,
    reason: String,
}

/// Opens sessions on the first provider that works; the CPU comes last, with the reasons why the others did not.
fn open_sessions(
    library: &Library,
    model: &Path,
    requested: Provider,
    count: usize,
    threads: usize,
) -> Result<Opened, EngineError> {
    let mut failures = Vec::new();
    for provider in requested.candidates() {
        match open_on(library, model, provider, count, threads) {
            Ok(sessions) => {
                let reason = match requested {
                    Provider::Auto => "the fastest provider that this library and machine have".to_owned(),
                    _ => "as requested".to_owned(),
                };
                return Ok(Opened { sessions, active: provider, reason });
            }
            Err(error) => {
                tracing::warn!(%provider, %error, "provider cannot be used");
                failures.push(format!("{provider} failed: {}", one_line(&error.to_string())));
            }
        }
    }
    let sessions = open_on(library, model, Provider::Cpu, count, threads).map_err(|error| {
        EngineError::Session { model: model.to_path_buf(), reason: one_line(&error.to_string()) }
    })?;
    let reason = match requested {
        Provider::Cpu => "as requested".to_owned(),
        _ if !failures.is_empty() => failures.join("; "),
        _ => format!("{} has no other provider", library.path().display()),
    };
    Ok(Opened { sessions, active: Provider::Cpu, reason })
}

fn open_on(
    library: &Library,
    model: &Path,
    provider: Provider,
    count: usize,
    threads: usize,
) -> Result<Vec<Session>, ort::Error> {
    (0..count)
        .map(|_| {
            let mut builder = Session::builder(library.environment())?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads)?
                // Threads that spin between operators take the cores away from decoding, from the other sessions and from
                // whatever else runs on the machine.
                .with_intra_op_spinning(false)?;
            if let Some(dispatch) = provider.dispatch() {
                builder = builder.with_execution_providers([dispatch])?;
            }
            builder.commit_from_file(model)
        })
        .collect()
}

/// Checks the graph's input and output against the manifest before the first image meets them.
fn check_signature(session: &Session, model: &Path, manifest: &Manifest) -> Result<(), EngineError> {
    let transform = &manifest.transform;
    let input = [-1, 3, i64::from(transform.crop_height), i64::from(transform.crop_width)];
    let output = [-1, manifest.embedding_dim as i64];
    let outlets = [
        (
            "input `pixels`",
            session.inputs().iter().find(|outlet| outlet.name() == "pixels"),
            input.as_slice(),
        ),
        (
            "output `embedding`",
            session.outputs().iter().find(|outlet| outlet.name() == "embedding"),
            output.as_slice(),
        ),
    ];
    for (what, outlet, expected) in outlets {
        let found = outlet.map(|outlet| outlet.dtype());
        // -1 is a dimension that is not fixed: the batch must not be, the others may be left open.
        let fits = match found {
            Some(ValueType::Tensor { shape, .. }) => {
                shape.len() == expected.len()
                    && shape[0] == -1
                    && shape.iter().zip(expected).all(|(found, expected)| *found == -1 || found == expected)
            }
            _ => false,
        };
        if !fits {
            return Err(EngineError::Signature {
                model: model.to_path_buf(),
                what,
                found: found.map_or_else(|| "missing".to_owned(), |dtype| format!("{dtype:?}")),
                expected: format!("f32 {expected:?}"),
            });
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
