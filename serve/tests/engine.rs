//! The engine on a tiny random model: needs ONNX Runtime, nothing else.

mod support;

use std::{fs, sync::Arc, time::Duration};

use dfml_models::{Reference, Transform, decode};
use dfml_serve::engine::{
    BatchObserver, BatchOptions, Batcher, Engine, EngineError, EngineOptions, KnownAnswers, Provider,
    Unobserved,
};
use support::{jpeg, load, write_model};

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn embeddings_are_unit_vectors_that_depend_on_the_image_and_not_on_the_batch() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let engine = load(dir.path(), 1);
    assert!(engine.provider().runtime.starts_with("ONNX Runtime 1."), "{}", engine.provider());
    assert!(engine.provider().probe_images_per_second > 0.0);
    let single: Vec<_> = (0..5).map(|n| engine.embed_bytes(&jpeg(n)).expect("an image")).collect();
    let mut pixels = vec![0.0; 5 * engine.pixels_per_image()];
    for (n, slot) in pixels.chunks_exact_mut(engine.pixels_per_image()).enumerate() {
        engine.preprocess_into(&jpeg(n as u32), slot).expect("an image");
    }
    let batch = engine.embed_pixels(&pixels, 5).expect("a batch");
    for (one, other) in single.iter().zip(&batch) {
        assert_eq!(one.len(), engine.manifest().embedding_dim);
        assert!((cosine(one, one) - 1.0).abs() < 1e-5);
        assert!(cosine(one, other) > 0.999_999);
    }
    assert!(cosine(&single[0], &single[1]) < 0.9999, "different images, different vectors");
}

#[test]
fn a_lone_image_and_many_at_a_time_give_the_same_vectors() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let one = load(dir.path(), 1);
    // Which sessions there are is measured: one on both threads alone, or beside it one for each.
    let options = EngineOptions { provider: Provider::Cpu, threads: Some(2), ..EngineOptions::default() };
    let engine = Engine::load(dir.path(), &options).expect("the model loads");
    let report = engine.provider();
    match report.threads_alone {
        Some(threads) => assert_eq!((threads, report.sessions, report.threads), (2, 2, 1)),
        None => assert_eq!((report.sessions, report.threads), (1, 2)),
    }
    assert_eq!(engine.sessions(), report.sessions);
    let expected: Vec<_> = (0..6).map(|n| one.embed_bytes(&jpeg(n)).expect("an image")).collect();
    let check = |n: u32| {
        let found = engine.embed_bytes(&jpeg(n)).expect("an image");
        assert!(cosine(&found, &expected[n as usize]) > 0.999_999, "{n}");
    };
    (0..6).for_each(check);
    std::thread::scope(|scope| {
        for start in 0..4 {
            scope.spawn(move || (0..60).for_each(|turn| check((start + turn) % 6)));
        }
    });
    let bulk = Engine::load(dir.path(), &options.for_throughput()).expect("the model loads");
    assert_eq!(bulk.provider().threads_alone, None, "bulk work never has the machine to itself");
}

#[test]
fn a_pixel_buffer_of_the_wrong_length_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let engine = load(dir.path(), 1);
    let error = engine.embed_pixels(&[0.0; 10], 1).expect_err("too short");
    assert!(matches!(error, EngineError::PixelCount { images: 1, found: 10, .. }), "{error}");
    assert!(engine.embed_pixels(&[], 0).expect("nothing to do").is_empty());
}

#[test]
fn bytes_that_are_no_image_are_the_senders_fault() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let engine = load(dir.path(), 1);
    let whole = jpeg(3);
    for bytes in [b"just some text\n".as_slice(), &whole[..whole.len() / 2], &[]] {
        let error = engine.embed_bytes(bytes).expect_err("not an image");
        assert!(matches!(error, EngineError::Decode(_)), "{error}");
    }
}

/// The tiny model's answers for five pictures, as the training network would have stored them.
fn reference(transform: &Transform, engine: &Engine) -> Reference {
    let pixels: Vec<_> = (0..5)
        .map(|n| transform.resize_crop(&decode(&jpeg(n), engine.decode_limits()).expect("an image")))
        .collect();
    let embeddings = (0..5).map(|n| engine.embed_bytes(&jpeg(n)).expect("an image")).collect();
    Reference { pixels, embeddings }
}

#[test]
fn a_model_that_misses_its_known_answers_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let answers = reference(&support::transform(), &load(dir.path(), 1));

    write_model(dir.path(), 1, Some(answers));
    let engine = load(dir.path(), 1);
    let answers = KnownAnswers::load(&engine).expect("readable").expect("there is a reference file");
    let parity = answers.check(&engine, answers.len()).expect("the same model");
    assert_eq!(parity.images, 5);
    assert!(parity.min_cosine > 0.999_999, "{}", parity.min_cosine);

    // The same answers beside a network with other weights.
    let answers = reference(&support::transform(), &engine);
    write_model(dir.path(), 2, Some(answers));
    let error = Engine::load(dir.path(), &EngineOptions::default()).err().expect("another network");
    assert!(matches!(error, EngineError::KnownAnswer { .. }), "{error}");
    assert!(error.to_string().contains("cosine"), "{error}");
}

#[test]
fn a_model_file_that_does_not_fit_its_manifest_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("folder");
    let manifest = write_model(dir.path(), 1, None);
    let model = dir.path().join(&manifest.files.model.name);
    let mut bytes = fs::read(&model).expect("model");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&model, bytes).expect("write");
    let error = Engine::load(dir.path(), &EngineOptions::default()).err().expect("wrong hash");
    assert!(matches!(error, EngineError::Manifest(_)), "{error}");
    assert!(error.to_string().contains(&manifest.files.model.name), "{error}");
}

#[test]
fn a_missing_library_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let library = dir.path().join("libonnxruntime.so");
    let options = EngineOptions { library: Some(library.clone()), ..EngineOptions::default() };
    let error = Engine::load(dir.path(), &options).err().expect("no library").to_string();
    assert!(error.contains("cargo xtask setup") && error.contains(&library.display().to_string()), "{error}");
}

#[test]
fn a_provider_that_cannot_be_had_is_reported_and_a_required_gpu_is_an_error() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let options = EngineOptions { provider: Provider::Cuda, ..EngineOptions::default() };
    let engine = Engine::load(dir.path(), &options).expect("falls back");
    if engine.provider().active == "cuda" {
        return; // A machine with a GPU and its library: nothing to fall back from.
    }
    assert_eq!((engine.provider().requested.as_str(), engine.provider().active.as_str()), ("cuda", "cpu"));
    assert!(engine.provider().reason.contains("cuda failed"), "{}", engine.provider().reason);
    let error =
        Engine::load(dir.path(), &EngineOptions { require_gpu: true, ..options }).err().expect("no GPU");
    match error {
        EngineError::GpuRequired { requested: Provider::Cuda, active: Provider::Cpu, reason } => {
            assert!(reason.contains("cuda failed"), "{reason}");
        }
        other => panic!("{other}"),
    }
}

fn pixels(engine: &Engine, number: u32) -> Vec<f32> {
    let mut pixels = vec![0.0; engine.pixels_per_image()];
    engine.preprocess_into(&jpeg(number), &mut pixels).expect("an image");
    pixels
}

/// Records the sizes of the batches, and holds up the computing thread after each until told to go on.
#[derive(Default)]
struct Gate {
    sizes: std::sync::Mutex<Vec<usize>>,
    abandoned: std::sync::atomic::AtomicUsize,
    closed: std::sync::atomic::AtomicBool,
    taken: std::sync::atomic::AtomicUsize,
}

impl BatchObserver for Gate {
    fn dequeued(&self, _waited: Duration) {
        self.taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        while self.closed.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn computed(&self, size: usize, _compute: Duration) {
        self.sizes.lock().expect("not poisoned").push(size);
    }

    fn abandoned(&self) {
        self.abandoned.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded_batched_and_forgets_callers_that_have_gone() {
    use std::sync::atomic::Ordering::SeqCst;
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let engine = Arc::new(load(dir.path(), 1));
    let expected = engine.embed_pixels(&pixels(&engine, 7), 1).expect("one image");
    let gate = Arc::new(Gate::default());
    gate.closed.store(true, SeqCst);
    let options = BatchOptions { max_batch: 3, max_wait: Duration::ZERO, queue_capacity: 4 };
    let batcher = Arc::new(Batcher::start(Arc::clone(&engine), options, gate.clone()).expect("threads"));
    let ask = |number| {
        let (batcher, pixels) = (Arc::clone(&batcher), pixels(&engine, number));
        tokio::spawn(async move { batcher.embed(pixels).await })
    };

    // The first is taken by the computing thread, which the gate holds; four more fill the queue.
    let first = ask(7);
    while gate.taken.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting: Vec<_> = (0..4).map(&ask).collect();
    while batcher.queue_depth() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = ask(9).await.expect("no panic").expect_err("the queue is full");
    assert!(matches!(refused, EngineError::Overloaded { capacity: 4 }), "{refused}");

    // One caller goes away before its turn.
    waiting[1].abort();
    while !waiting[1].is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gate.closed.store(false, SeqCst);
    let vector = first.await.expect("no panic").expect("computed");
    assert!(cosine(&vector, &expected[0]) > 0.999_999);
    for (n, task) in waiting.into_iter().enumerate() {
        match task.await {
            Ok(result) => {
                let vector = result.expect("computed");
                let alone = engine.embed_pixels(&pixels(&engine, n as u32), 1).expect("one image");
                assert!(cosine(&vector, &alone[0]) > 0.999_999, "request {n} got its own answer");
            }
            Err(error) => assert!(n == 1 && error.is_cancelled()),
        }
    }
    drop(batcher);
    assert_eq!(gate.abandoned.load(SeqCst), 1);
    let sizes = gate.sizes.lock().expect("not poisoned").clone();
    assert_eq!(sizes.iter().sum::<usize>(), 4, "the abandoned one was not computed: {sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 3), "{sizes:?}");
}

#[tokio::test]
async fn requests_that_wait_are_answered_before_the_batcher_ends() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(dir.path(), 1, None);
    let engine = Arc::new(load(dir.path(), 2));
    let batcher =
        Batcher::start(Arc::clone(&engine), BatchOptions::default(), Arc::new(Unobserved)).expect("threads");
    let asked = (0..20).map(|n| batcher.embed(pixels(&engine, n)));
    for (n, vector) in futures_in_order(asked).await.into_iter().enumerate() {
        let alone = engine.embed_pixels(&pixels(&engine, n as u32), 1).expect("one image");
        assert!(cosine(&vector.expect("computed"), &alone[0]) > 0.999_999);
    }
    let wrong = batcher.embed(vec![0.0; 3]).await.expect_err("wrong length");
    assert!(matches!(wrong, EngineError::PixelCount { .. }));
}

/// Runs futures at the same time on this task and returns their results in order.
async fn futures_in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(Box::pin).map(Ok::<_, F::Output>).collect();
    std::future::poll_fn(|context| {
        for slot in &mut pending {
            if let Ok(future) = slot
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *slot = Err(output);
            }
        }
        if pending.iter().all(Result::is_err) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(Result::err).collect()
}
