//! How fast this machine multiplies single-precision matrices: the roof over any network.

use dfml_models::onnx::matrix_product;
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::{
    Spent,
    stopwatch::{Stopwatch, in_parallel},
};
use crate::engine::{EngineError, Library};

/// Rows, inner length, columns: large enough that nothing but the products counts, and of a transformer's own layers, which
/// a library may be tuned for. The fastest counts.
const SHAPES: [[usize; 3]; 4] = [[1024, 1024, 1024], [2048, 512, 2048], [1584, 384, 1536], [1584, 1536, 384]];
/// Products per measurement and thread.
const REPEATS: usize = 4;

/// Matrix products through ONNX Runtime's kernels, on every thread at the same time.
pub struct Gemm {
    sessions: Vec<Session>,
    shape: [usize; 3],
}

impl Gemm {
    /// Finds the shape that runs fastest, on `threads` single-threaded sessions.
    ///
    /// # Errors
    /// [`EngineError`] if ONNX Runtime refuses.
    pub fn fastest(library: &Library, threads: usize) -> Result<Self, EngineError> {
        let mut best: Option<(f64, Self)> = None;
        for shape in SHAPES {
            let mut gemm = Self::open(library, shape, threads)?;
            gemm.run()?;
            let rate = gemm.macs() as f64 / gemm.run()?.clock.as_secs_f64();
            if best.as_ref().is_none_or(|(most, _)| rate > *most) {
                best = Some((rate, gemm));
            }
        }
        best.map(|(_, gemm)| gemm)
            .ok_or_else(|| EngineError::Inference { reason: "no matrix product was measured".to_owned() })
    }

    fn open(library: &Library, shape: [usize; 3], threads: usize) -> Result<Self, EngineError> {
        let model = matrix_product(shape[1], shape[2]);
        let open = || {
            Session::builder(library.environment())?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(1)?
                .commit_from_memory(&model)
        };
        let sessions: Result<_, ort::Error> = (0..threads.max(1)).map(|_| open()).collect();
        Ok(Self { sessions: sessions.map_err(inference)?, shape })
    }

    /// Multiply-accumulates of one measurement.
    pub fn macs(&self) -> u64 {
        let [rows, inner, columns] = self.shape.map(|extent| extent as u64);
        rows * inner * columns * (REPEATS * self.sessions.len()) as u64
    }

    pub(super) fn run(&mut self) -> Result<Spent, EngineError> {
        let [rows, inner, _] = self.shape;
        let values: Vec<f32> = (0..rows * inner).map(|i| (i % 97) as f32 / 97.0).collect();
        let watch = Stopwatch::start();
        let jobs = REPEATS * self.sessions.len();
        in_parallel(jobs, self.sessions.iter_mut().collect(), |session, _| {
            let input = TensorRef::from_array_view(([rows, inner], &values[..])).map_err(inference)?;
            session.run(ort::inputs![dfml_models::onnx::INPUT => input]).map(drop).map_err(inference)
        })?;
        Ok(watch.spent())
    }
}

fn inference(error: ort::Error) -> EngineError {
    EngineError::Inference { reason: error.to_string() }
}
