//! The known-answer test: does this runtime compute what the training network computed?

use dfml_models::{Parity, Reference};

use super::{Engine, EngineError};

/// Images per run, so that memory does not grow with the number of reference images.
const BATCH: usize = 8;

/// Reference images with the training network's embeddings, read from a model directory.
pub struct KnownAnswers(Reference);

impl KnownAnswers {
    /// Reads the engine's reference file; `None` if its manifest lists none.
    ///
    /// # Errors
    /// [`EngineError::Manifest`] if the file cannot be read, [`EngineError::ReferenceSize`] if it is another model's.
    pub fn load(engine: &Engine) -> Result<Option<Self>, EngineError> {
        let Some(reference) = engine.manifest().load_reference(engine.model_dir())? else { return Ok(None) };
        let (transform, dim) = (&engine.manifest().transform, engine.manifest().embedding_dim);
        let size = (transform.crop_width, transform.crop_height);
        let fits = reference.pixels.iter().all(|image| (image.width, image.height) == size)
            && reference.embeddings.iter().all(|embedding| embedding.len() == dim);
        if fits {
            Ok(Some(Self(reference)))
        } else {
            Err(EngineError::ReferenceSize { model_dir: engine.model_dir().to_path_buf() })
        }
    }

    /// How many reference images there are.
    pub fn len(&self) -> usize {
        self.0.pixels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.pixels.is_empty()
    }

    /// Embeds up to `images` of them, evenly spread, and compares.
    ///
    /// # Errors
    /// [`EngineError::KnownAnswer`] names the worst image if any cosine is below [`Engine::cosine_min`].
    pub fn check(&self, engine: &Engine, images: usize) -> Result<Parity, EngineError> {
        let parity = self.compare(engine, images)?;
        let required = engine.cosine_min();
        if parity.worst_cosine < required {
            return Err(EngineError::KnownAnswer {
                model_dir: engine.model_dir().to_path_buf(),
                image: parity.worst_image,
                cosine: parity.worst_cosine,
                required,
            });
        }
        Ok(parity.report(engine))
    }

    /// Embeds all of them and compares, whatever comes out.
    ///
    /// # Errors
    /// [`EngineError::Inference`].
    pub fn measure(&self, engine: &Engine) -> Result<Parity, EngineError> {
        Ok(self.compare(engine, self.len())?.report(engine))
    }

    fn compare(&self, engine: &Engine, images: usize) -> Result<Comparison, EngineError> {
        let total = self.len();
        let chosen: Vec<usize> = match images {
            0 => Vec::new(),
            images if images >= total => (0..total).collect(),
            images => (0..images).map(|i| i * total / images).collect(),
        };
        let mut result = Comparison { images: chosen.len(), worst_image: 0, worst_cosine: 1.0 };
        let per_image = engine.pixels_per_image();
        let mut pixels = vec![0.0; BATCH * per_image];
        for batch in chosen.chunks(BATCH) {
            for (slot, &image) in pixels.chunks_exact_mut(per_image).zip(batch) {
                engine.manifest().transform.normalize_into(&self.0.pixels[image], slot);
            }
            let vectors = engine.embed_pixels(&pixels[..batch.len() * per_image], batch.len())?;
            for (vector, &image) in vectors.iter().zip(batch) {
                let cosine = cosine(vector, &self.0.embeddings[image]);
                if cosine < result.worst_cosine {
                    result.worst_cosine = cosine;
                    result.worst_image = image;
                }
            }
        }
        Ok(result)
    }
}

struct Comparison {
    images: usize,
    worst_image: usize,
    worst_cosine: f64,
}

impl Comparison {
    fn report(&self, engine: &Engine) -> Parity {
        Parity {
            images: self.images,
            min_cosine: self.worst_cosine,
            runtime: engine.provider().runtime.clone(),
            provider: engine.provider().active.clone(),
        }
    }
}

/// Cosine in f64; 0 for vectors of different lengths, without length or with a NaN, so that they never pass for equal.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { dot(a, b) / norm } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_is_one_for_parallel_vectors_and_zero_where_there_is_none() {
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-12);
        assert!((cosine(&[1.0, 0.0], &[0.0, 3.0])).abs() < 1e-12);
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), 0.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert_eq!(cosine(&[f32::NAN, 0.0], &[1.0, 0.0]), 0.0);
    }
}
