//! A question to an index, and the answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Filter, IndexError};

/// Something to look for, or to stay away from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Example {
    /// An embedding, `[dim]`. Any length but zero: it is normalised.
    Vector(Vec<f32>),
    /// A stored item, by id.
    Item(String),
    /// A stored product, by id: the mean of its items.
    Product(String),
}

/// A question to the index.
///
/// With several examples the query is the mean of the positive ones, and with negative ones twice that mean less the mean
/// of the negative ones: away from those, as far as the positive ones are apart from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// What to look for; at least one.
    pub positive: Vec<Example>,
    /// What to stay away from.
    #[serde(default)]
    pub negative: Vec<Example>,
    /// How many hits to return at most.
    pub k: usize,
    /// How many of the best hits to leave out (paging).
    #[serde(default)]
    pub offset: usize,
    /// Only items that the filter lets through are considered; the search still returns `k` of those if there are as many.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// One hit per product, its best image.
    #[serde(default)]
    pub group_by_product: bool,
    /// Leave out hits that score less, a cosine in -1..=1.
    #[serde(default)]
    pub threshold: Option<f32>,
    /// Leave out the items and products that are examples; with `group_by_product` also the products of the example items.
    #[serde(default)]
    pub exclude_examples: bool,
    /// Compare with every item, however large the index is.
    #[serde(default)]
    pub exact: bool,
    /// Search effort of a graph search (its `ef`): more finds more and takes longer. The index's own choice if not given.
    #[serde(default)]
    pub effort: Option<usize>,
}

impl SearchRequest {
    /// A search for the 10 items nearest to a vector, without filter.
    pub fn new(vector: Vec<f32>) -> Self {
        Self { positive: vec![Example::Vector(vector)], k: 10, ..Self::default() }
    }

    /// A search for the 10 items nearest to a stored one, which is left out.
    pub fn like_item(id: impl Into<String>) -> Self {
        Self { positive: vec![Example::Item(id.into())], k: 10, exclude_examples: true, ..Self::default() }
    }

    /// A search for the 10 products most like a stored one, which is left out.
    pub fn like_product(id: impl Into<String>) -> Self {
        Self {
            positive: vec![Example::Product(id.into())],
            k: 10,
            group_by_product: true,
            exclude_examples: true,
            ..Self::default()
        }
    }

    /// The unit vector that the examples stand for. `stored` gives the vectors of an item or a product, and an error where there
    /// is none.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] if there is no positive example, a vector has not `dim` finite values or the
    /// examples cancel out; otherwise what `stored` returns.
    pub fn query(
        &self,
        dim: usize,
        mut stored: impl FnMut(&Example) -> Result<Vec<Vec<f32>>, IndexError>,
    ) -> Result<Vec<f32>, IndexError> {
        let invalid = |reason: &str| IndexError::InvalidRequest { reason: reason.into() };
        if self.threshold.is_some_and(f32::is_nan) {
            return Err(invalid("its threshold is not a number"));
        }
        if let ([Example::Vector(vector)], []) = (self.positive.as_slice(), self.negative.as_slice()) {
            return unit(vector, dim);
        }
        if self.positive.is_empty() {
            return Err(invalid("it has no positive example"));
        }
        let mut mean = |examples: &[Example]| -> Result<Vec<f64>, IndexError> {
            let mut sum = vec![0f64; dim];
            for example in examples {
                let vector = match example {
                    Example::Vector(vector) => unit(vector, dim)?,
                    Example::Item(_) | Example::Product(_) => {
                        let mut centre = vec![0f64; dim];
                        for vector in stored(example)? {
                            add(&mut centre, &unit(&vector, dim)?, 1.0);
                        }
                        let centre: Vec<f32> = centre.iter().map(|&value| value as f32).collect();
                        unit(&centre, dim)?
                    }
                };
                add(&mut sum, &vector, 1.0 / examples.len() as f64);
            }
            Ok(sum)
        };
        let mut query = mean(&self.positive)?;
        if !self.negative.is_empty() {
            let away = mean(&self.negative)?;
            query.iter_mut().zip(&away).for_each(|(value, away)| *value = 2.0 * *value - away);
        }
        let query: Vec<f32> = query.iter().map(|&value| value as f32).collect();
        unit(&query, dim).map_err(|_| invalid("its examples cancel each other out"))
    }
}

fn add(sum: &mut [f64], vector: &[f32], factor: f64) {
    sum.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += factor * f64::from(value));
}

/// A vector scaled to unit length. One that has unit length up to rounding stays as it is.
fn unit(vector: &[f32], dim: usize) -> Result<Vec<f32>, IndexError> {
    let invalid = |reason| IndexError::InvalidRequest { reason };
    let length = length(vector, dim).map_err(invalid)?;
    if length < f64::from(f32::MIN_POSITIVE) {
        return Err(invalid("its vector is zero".into()));
    }
    if (length - 1.0).abs() < 1e-6 {
        return Ok(vector.to_vec());
    }
    Ok(vector.iter().map(|&value| (f64::from(value) / length) as f32).collect())
}

/// Length of a vector, which must have `dim` finite values. In doubles: that of a long vector of large values is no f32.
pub(crate) fn length(vector: &[f32], dim: usize) -> Result<f64, String> {
    if vector.len() != dim {
        return Err(format!("its vector has {} values; this index holds vectors of {dim}", vector.len()));
    }
    // In doubles nothing overflows, and small values count. Several sums, so that additions need not wait for each other.
    let mut sums = [0f64; 8];
    for values in vector.chunks(sums.len()) {
        sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
    }
    let squares: f64 = sums.iter().sum();
    if !squares.is_finite()
        && let Some(position) = vector.iter().position(|value| !value.is_finite())
    {
        return Err(format!("value {position} of its vector is {}", vector[position]));
    }
    Ok(squares.sqrt())
}

/// One answer to a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Id of the item.
    pub item_id: String,
    /// The product it shows.
    pub product_id: String,
    /// Cosine similarity with the query, -1..=1 up to rounding.
    pub score: f32,
    /// The item's metadata.
    pub metadata: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(request: &SearchRequest) -> Result<Vec<f32>, IndexError> {
        request.query(2, |example| match example {
            Example::Item(id) if id == "east" => Ok(vec![vec![1.0, 0.0]]),
            Example::Product(id) if id == "diagonal" => Ok(vec![vec![1.0, 0.0], vec![0.0, 1.0]]),
            other => Err(IndexError::NoSuchItem { id: format!("{other:?}") }),
        })
    }

    fn close(found: &[f32], expected: [f32; 2]) -> bool {
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn examples_make_one_vector() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert!(close(&query(&SearchRequest::new(vec![0.0, 3.0])).expect("a query"), [0.0, 1.0]));
        assert!(close(&query(&SearchRequest::like_item("east")).expect("a query"), [1.0, 0.0]));
        assert!(close(&query(&SearchRequest::like_product("diagonal")).expect("a query"), [half, half]));
        // 2 * (1, 0) - (0, 1) has length sqrt(5).
        let away = SearchRequest {
            negative: vec![Example::Vector(vec![0.0, 7.0])],
            ..SearchRequest::like_item("east")
        };
        let length = 5f32.sqrt();
        assert!(close(&query(&away).expect("a query"), [2.0 / length, -1.0 / length]));
    }

    #[test]
    fn only_the_direction_of_a_vector_counts() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        // The longest of these is longer than any f32, the shortest a little longer than the least that is not zero.
        for value in [f32::MAX, 1e30, 1.0, 1e-30, f32::MIN_POSITIVE] {
            let found = query(&SearchRequest::new(vec![value, -value])).expect("a query");
            assert!(close(&found, [half, -half]), "{value}: {found:?}");
        }
    }

    #[test]
    fn examples_that_say_nothing_are_refused() {
        let refused = |request: &SearchRequest| query(request).expect_err("refused").to_string();
        assert!(refused(&SearchRequest::default()).contains("no positive example"));
        assert!(refused(&SearchRequest::new(vec![1.0])).contains("1 values"));
        assert!(refused(&SearchRequest::like_item("west")).contains("west"));
        let opposite = SearchRequest {
            positive: vec![Example::Vector(vec![1.0, 0.0]), Example::Vector(vec![-1.0, 0.0])],
            ..SearchRequest::default()
        };
        assert!(refused(&opposite).contains("cancel"));
    }
}
