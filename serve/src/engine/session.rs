//! The engine: sessions on one model, from pixels or image bytes to unit vectors.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use dfml_models::{DecodeLimits, Manifest};
use ort::{
    session::Session,
    value::{TensorRef, ValueType},
};

use super::{
    EngineError, KnownAnswers, Library, Provider, ProviderReport,
    crowd::Crowd,
    pool::Pool,
    sessions::{Layout, Request},
};

/// Images in the timed run at load.
const PROBE_BATCH: usize = 4;
/// The timed run ends after this long, or after [`PROBE_RUNS`].
const PROBE_TIME_MAX: Duration = Duration::from_millis(400);
const PROBE_RUNS: u32 = 8;
/// Images of one run on a processor: enough for every row of a product to be computed at full speed, and few enough for what one
/// layer hands to the next to stay in the cache: a transformer is a tenth faster than on eight at a time (docs/results/engine.md).
pub(crate) const PROCESSOR_BATCH: usize = 2;
/// Enough to fill a GPU.
const GPU_BATCH: usize = 32;
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
    /// Sessions side by side. `None` chooses by measuring: one on all threads, which answers a single request soonest, and beside
    /// it one per thread for when there are many requests, where those do more per second.
    pub sessions: Option<usize>,
    /// Where that is left to measuring: for many images only, not for single ones.
    pub throughput: bool,
    /// The ONNX Runtime library; `None` looks in the usual places, see [`super::resolve_library`].
    pub library: Option<PathBuf>,
    /// Bounds on the images that [`Engine::embed_bytes`] decodes.
    pub decode_limits: DecodeLimits,
    /// Load a model even if it does not reproduce its known answers. Only for measuring by how much it misses them.
    pub skip_self_test: bool,
}

impl EngineOptions {
    /// The same options for bulk work: one single-threaded session per thread, so that no thread ever waits for another one
    /// inside an operator, unless a single session on all threads is measured to do more.
    pub fn for_throughput(mut self) -> Self {
        self.throughput = true;
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
    /// One session on all threads, for a run that has the machine to itself.
    alone: Option<Pool<Session>>,
    crowd: Crowd,
    /// Batches are filled up to a power of two, because every new size is compiled anew.
    pads_batches: bool,
    is_on_gpu: bool,
    cosine_min: f64,
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
        let library = Library::load(options.library.as_deref(), options.provider)?;
        let model = manifest.model_path(model_dir);
        let layout = match options.sessions {
            Some(count) => Layout::Fixed(count),
            None if options.throughput => Layout::Bulk,
            None => Layout::Requests,
        };
        let request = Request {
            library: &library,
            model: &model,
            provider: options.provider,
            layout,
            threads: options.thread_count(),
        };
        let blank = vec![0.0; PROBE_BATCH * manifest.transform.output_len()];
        let opened = request.open(&|session| run(session, &manifest, &blank, PROBE_BATCH).map(drop))?;
        if options.require_gpu && !opened.active.is_gpu() {
            return Err(EngineError::GpuRequired {
                requested: options.provider,
                active: opened.active,
                reason: opened.reason,
            });
        }
        for session in opened.sessions.iter().chain(&opened.alone) {
            check_signature(session, &model, &manifest)?;
        }
        let mut engine = Self {
            model_dir: model_dir.to_path_buf(),
            report: ProviderReport {
                requested: options.provider.to_string(),
                active: opened.active.to_string(),
                reason: opened.reason,
                runtime: format!("ONNX Runtime {}", library.version()),
                sessions: opened.sessions.len(),
                threads: if opened.active.is_gpu() { 0 } else { opened.threads },
                threads_alone: opened.alone.as_ref().map(|_| options.thread_count()),
                device_bytes: opened.device_bytes,
                probe_images_per_second: 0.0,
            },
            pads_batches: opened.active.compiles_shapes(),
            is_on_gpu: opened.active.is_gpu(),
            cosine_min: opened.active.cosine_min().min(manifest.reference_cosine_min()),
            manifest,
            sessions: Pool::new(opened.sessions),
            alone: opened.alone.map(|session| Pool::new(vec![session])),
            crowd: Crowd::new(),
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

    /// The smallest cosine between our embedding of a reference image and the training network's that is accepted: close to
    /// 1, a little less on providers that compute in fewer bits.
    pub fn cosine_min(&self) -> f64 {
        self.cosine_min
    }

    /// The bounds on images that are decoded.
    pub fn decode_limits(&self) -> &DecodeLimits {
        &self.decode_limits
    }

    /// Whether a GPU computes.
    pub fn is_on_gpu(&self) -> bool {
        self.is_on_gpu
    }

    /// How many batches can be computed at the same time.
    pub fn sessions(&self) -> usize {
        self.sessions.size()
    }

    /// Images that one run computes at full speed.
    pub fn batch(&self) -> usize {
        if self.is_on_gpu { GPU_BATCH } else { PROCESSOR_BATCH }
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
        let size = if self.pads_batches { n.next_power_of_two() } else { n };
        let turn = self.crowd.enter();
        let mut session = match &self.alone {
            Some(alone) if turn.alone => alone.take(),
            _ => self.sessions.take(),
        };
        let mut vectors = if size == n {
            run(&mut session, &self.manifest, pixels, n)?
        } else {
            let mut padded = Vec::with_capacity(size * self.pixels_per_image());
            padded.extend_from_slice(pixels);
            padded.resize(size * self.pixels_per_image(), 0.0);
            run(&mut session, &self.manifest, &padded, size)?
        };
        vectors.truncate(n);
        Ok(vectors)
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

    /// Runs every size that batches of at most `most` images are made up to, where the first run of a size takes long: a GPU looks
    /// for its algorithms then, a compiling provider compiles.
    ///
    /// # Errors
    /// [`EngineError::Inference`].
    pub fn warm_up(&mut self, most: usize) -> Result<(), EngineError> {
        if !self.pads_batches {
            return Ok(());
        }
        let largest = most.max(1).next_power_of_two();
        let pixels = vec![0.0; largest * self.pixels_per_image()];
        let image = self.pixels_per_image();
        let alone = self.alone.iter_mut().flat_map(Pool::all);
        for session in self.sessions.all().iter_mut().chain(alone) {
            let sizes =
                std::iter::successors(Some(1), |size| Some(size * 2)).take_while(|&size| size <= largest);
            for size in sizes {
                run(session, &self.manifest, &pixels[..size * image], size)?;
            }
        }
        Ok(())
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
        let Some(answers) = KnownAnswers::load(self)? else { return Ok(()) };
        answers.check(self, SELF_TEST_IMAGES)?;
        if self.alone.is_some() {
            // That was the session for a lone run; with company, one of the others has its turn.
            let _company = self.crowd.enter();
            answers.check(self, SELF_TEST_IMAGES)?;
        }
        Ok(())
    }
}

/// Computes `n` images on one session.
fn run(
    session: &mut Session,
    manifest: &Manifest,
    pixels: &[f32],
    n: usize,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let (transform, dim) = (&manifest.transform, manifest.embedding_dim);
    let shape = [n, 3, transform.crop_height as usize, transform.crop_width as usize];
    let inference = |error: ort::Error| EngineError::Inference { reason: error.to_string() };
    let input = TensorRef::from_array_view((shape, pixels)).map_err(inference)?;
    let outputs = session.run(ort::inputs!["pixels" => input]).map_err(inference)?;
    let output = outputs
        .get("embedding")
        .ok_or_else(|| EngineError::Inference { reason: "the model has no output `embedding`".to_owned() })?;
    let (shape, values) = output.try_extract_tensor::<f32>().map_err(inference)?;
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
