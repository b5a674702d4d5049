//! What a search may ask for.

use dfml_index::Filter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::ApiError;

/// Most positive and negative examples of one search.
pub(in crate::http) const EXAMPLES_MAX: usize = 32;
/// Most conditions in a filter.
const CONDITIONS_MAX: usize = 1000;

/// A search. At least one positive example has to be given: `image`, `item_id`, `product_id`, `vector` or `positive`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SearchBody {
    /// The picture to search with: a data URI, bare base64, or, where the server allows it, an http or https address.
    #[schema(examples("data:image/png;base64,iVBORw0KGgo="), min_length = 1)]
    pub image: Option<String>,
    /// Search with a stored picture.
    #[schema(min_length = 1, max_length = 1024)]
    pub item_id: Option<String>,
    /// Search with a stored product: the mean of its pictures.
    #[schema(min_length = 1, max_length = 1024)]
    pub product_id: Option<String>,
    /// Search with an embedding of this model.
    #[schema(min_items = 1)]
    pub vector: Option<Vec<f32>>,
    /// Find what is like these, too.
    #[schema(max_items = 32)]
    pub positive: Vec<Example>,
    /// Find what is unlike these.
    #[schema(max_items = 32)]
    pub negative: Vec<Example>,
    /// The part of `image` to look at.
    pub crop: Option<CropBox>,
    /// How many results; the server's default if not given, and at most what `/v1/info` tells.
    #[schema(minimum = 1)]
    pub k: Option<usize>,
    /// How many of the best results to leave out (paging).
    #[schema(minimum = 0)]
    pub offset: usize,
    /// Only items of this category: short for a filter on the metadata key `category`.
    #[schema(max_length = 256)]
    pub category: Option<String>,
    /// Only items that meet this condition. It is part of the search: `k` results are found if there are as many.
    pub filter: Option<Filter>,
    /// Only results of at least this cosine similarity.
    #[schema(minimum = -1.0, maximum = 1.0)]
    pub threshold: Option<f64>,
    /// Only results that show the query's product with at least this probability; needs a calibrated model.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub min_probability: Option<f64>,
    /// Compare with every item instead of walking the graph of a large index.
    pub exact: bool,
    /// Effort of a graph search; the index's own choice if not given.
    #[schema(minimum = 1, maximum = 10000)]
    pub effort: Option<usize>,
    /// One result per product (its best picture) or per picture.
    pub group_by: GroupBy,
    /// Also return the embeddings of the results.
    pub include_vectors: bool,
    /// Leave the stored examples, or with `group_by` product their products, out of the results.
    pub exclude_examples: bool,
}

/// What counts as one result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// One result per product, its best picture.
    #[default]
    Product,
    /// One result per picture.
    Item,
}

/// Something to be like or unlike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Example {
    /// A stored picture.
    ItemId(String),
    /// A stored product: the mean of its pictures.
    ProductId(String),
    /// A picture: a data URI, bare base64, or, where the server allows it, an http or https address.
    Image(String),
    /// An embedding of this model.
    Vector(Vec<f32>),
}

/// A rectangle of an upright picture, as shares of its width and height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CropBox {
    /// Left edge.
    #[schema(minimum = 0.0, exclusive_maximum = 1.0)]
    pub left: f64,
    /// Top edge.
    #[schema(minimum = 0.0, exclusive_maximum = 1.0)]
    pub top: f64,
    /// Extent to the right; what reaches out of the picture is cut off.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    pub width: f64,
    /// Extent downwards; what reaches out of the picture is cut off.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    pub height: f64,
}

/// Many searches at a time.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    /// The searches; each is answered or refused by itself.
    #[schema(min_items = 1)]
    pub searches: Vec<SearchBody>,
}

impl CropBox {
    /// The part of the picture inside the box.
    pub(super) fn part(&self) -> Result<dfml_models::CropBox, ApiError> {
        let Self { left, top, width, height } = *self;
        // Not `min`, which would make a number of what is none.
        let cut = |extent: f64, room: f64| if extent > room { room } else { extent };
        dfml_models::CropBox::new(left, top, cut(width, 1.0 - left), cut(height, 1.0 - top)).map_err(|_| {
            ApiError::InvalidParameter {
                name: "crop",
                value: format!("{left},{top},{width},{height}"),
                reason:
                    "left and top must be from 0 to below 1, width and height above 0: shares of the picture"
                        .to_owned(),
            }
        })
    }
}

impl SearchBody {
    /// How many results are wanted, or why not so many.
    pub(super) fn count(&self, k_default: usize, k_max: usize) -> Result<usize, ApiError> {
        let wrong = |name: &'static str, value: usize, allowed: String| ApiError::InvalidParameter {
            name,
            value: value.to_string(),
            reason: format!("it must be {allowed}"),
        };
        let k = self.k.unwrap_or(k_default);
        if k == 0 || k > k_max {
            return Err(wrong("k", k, format!("from 1 to {k_max}")));
        }
        if k.saturating_add(self.offset) > k_max {
            return Err(wrong("offset", self.offset, format!("such that k + offset is at most {k_max}")));
        }
        Ok(k)
    }

    /// Checks what does not depend on the model or the index.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let wrong = |name: &'static str, value: String, reason: &str| {
            Err(ApiError::InvalidParameter { name, value, reason: reason.to_owned() })
        };
        if let Some(crop) = &self.crop {
            crop.part()?;
        }
        match self.threshold {
            Some(threshold) if !(-1.0..=1.0).contains(&threshold) => {
                return wrong(
                    "threshold",
                    threshold.to_string(),
                    "it must be a cosine similarity from -1 to 1",
                );
            }
            _ => {}
        }
        match self.min_probability {
            Some(least) if !(0.0..=1.0).contains(&least) => {
                return wrong("min_probability", least.to_string(), "it must be from 0 to 1");
            }
            _ => {}
        }
        if matches!(self.effort, Some(effort) if !(1..=10_000).contains(&effort)) {
            return wrong(
                "effort",
                self.effort.unwrap_or_default().to_string(),
                "it must be from 1 to 10000",
            );
        }
        if self.positive.len() > EXAMPLES_MAX || self.negative.len() > EXAMPLES_MAX {
            let reason = format!("at most {EXAMPLES_MAX} positive and as many negative examples");
            return Err(ApiError::Unprocessable { code: "too_many_examples", reason });
        }
        let conditions = self.filter.as_ref().map_or(0, conditions);
        if conditions > CONDITIONS_MAX {
            let reason =
                format!("the filter has {conditions} conditions; at most {CONDITIONS_MAX} are looked at");
            return Err(ApiError::Unprocessable { code: "filter_too_large", reason });
        }
        Ok(())
    }

    /// The condition on results, `category` included.
    pub(super) fn condition(&self, category_key: &str) -> Option<Filter> {
        let category = self.category.as_ref().map(|category| Filter::equals(category_key, category));
        match (category, self.filter.clone()) {
            (Some(category), Some(filter)) => Some(Filter::And(vec![category, filter])),
            (category, filter) => category.or(filter),
        }
    }
}

fn conditions(filter: &Filter) -> usize {
    match filter {
        Filter::And(all) | Filter::Or(all) => 1 + all.iter().map(conditions).sum::<usize>(),
        Filter::Not(one) => 1 + conditions(one),
        Filter::AnyOf { values, .. } => values.len().max(1),
        Filter::Products(ids) => ids.len().max(1),
        Filter::Equals { .. } | Filter::Range { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_the_ranking_stays_within_the_limit() {
        let count = |k, offset| SearchBody { k, offset, ..SearchBody::default() }.count(12, 100);
        assert_eq!(count(None, 0).expect("default"), 12);
        assert_eq!(count(Some(90), 10).expect("just fits"), 90);
        assert!(count(Some(0), 0).is_err());
        assert!(count(Some(101), 0).is_err());
        assert!(count(Some(91), 10).is_err());
        assert!(count(Some(1), usize::MAX).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |text: &str| {
            let body: SearchBody = serde_json::from_str(text).expect("the documented shape");
            body.check().expect_err(text).to_string()
        };
        assert!(refused(r#"{"crop":{"left":0.5,"top":0,"width":0,"height":1}}"#).contains("crop"));
        assert!(refused(r#"{"crop":{"left":1,"top":0,"width":0.5,"height":1}}"#).contains("crop"));
        assert!(CropBox { left: 0.0, top: 0.0, width: f64::NAN, height: 1.0 }.part().is_err());
        assert!(refused(r#"{"threshold":1.5}"#).contains("threshold"));
        assert!(refused(r#"{"min_probability":-0.1}"#).contains("min_probability"));
        assert!(refused(r#"{"effort":0}"#).contains("effort"));
        let many = vec![r#"{"item_id":"a"}"#; 33].join(",");
        assert!(refused(&format!(r#"{{"negative":[{many}]}}"#)).contains("at most 32"));
        let values = vec!["1"; 1001].join(",");
        let filter = format!(r#"{{"filter":{{"not":{{"any_of":{{"field":"a","values":[{values}]}}}}}}}}"#);
        assert!(refused(&filter).contains("1002 conditions"));
    }

    #[test]
    fn a_box_that_reaches_out_of_the_picture_is_cut() {
        let reaching = CropBox { left: 0.75, top: 0.5, width: 1.0, height: 1.0 };
        assert_eq!(reaching.part().ok(), dfml_models::CropBox::new(0.75, 0.5, 0.25, 0.5).ok());
    }

    #[test]
    fn category_and_filter_are_both_conditions() {
        let body = SearchBody {
            category: Some("Lamps".to_owned()),
            filter: Some(Filter::range("width_cm", 10.0, None)),
            ..SearchBody::default()
        };
        let Some(Filter::And(both)) = body.condition("category") else { panic!("both") };
        assert_eq!(both, [Filter::equals("category", "Lamps"), Filter::range("width_cm", 10.0, None)]);
        assert_eq!(SearchBody::default().condition("category"), None);
    }
}
