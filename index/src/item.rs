//! What goes into an index, and how it is changed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{IndexError, request::length};

/// How far the length of a stored vector may be from 1.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// One image of a product, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Names the image; upserting it again replaces it. Not empty, at most [`Item::ID_BYTES_MAX`] bytes.
    pub id: String,
    /// The product that the image shows. Not empty, at most [`Item::ID_BYTES_MAX`] bytes.
    pub product_id: String,
    /// Embedding of unit length, `[dim]`.
    pub vector: Vec<f32>,
    /// What is known about the image and its product; filters look here.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

impl Item {
    /// Longest item or product id, in bytes of UTF-8.
    pub const ID_BYTES_MAX: usize = 1024;
    /// Largest difference of the values of two vectors of unit length that [`Item::is_same`] takes for rounding.
    pub const SAME_TOLERANCE: f32 = 1e-6;

    /// Refuses the first item that an index of vectors of `dim` dimensions cannot store or compare.
    ///
    /// # Errors
    /// [`IndexError::InvalidItem`].
    pub fn check_all(items: &[Self], dim: usize) -> Result<(), IndexError> {
        let check = |item: &Self| {
            item.check(dim).map_err(|reason| IndexError::InvalidItem { id: item.id.clone(), reason })
        };
        items.iter().try_for_each(check)
    }

    fn check(&self, dim: usize) -> Result<(), String> {
        for (name, id) in [("id", &self.id), ("product id", &self.product_id)] {
            if id.is_empty() {
                return Err(format!("its {name} is empty"));
            }
            if id.len() > Self::ID_BYTES_MAX {
                return Err(format!("its {name} has {} bytes; {} are allowed", id.len(), Self::ID_BYTES_MAX));
            }
        }
        let length = length(&self.vector, dim)?;
        if (length - 1.0).abs() > LENGTH_TOLERANCE {
            return Err(format!("its vector has length {length}, not 1"));
        }
        Ok(())
    }

    /// Whether two items are the same, but for the rounding of an index that scales vectors to unit length.
    pub fn is_same(&self, other: &Self) -> bool {
        let dim = self.vector.len();
        let (Ok(mine), Ok(its)) = (length(&self.vector, dim), length(&other.vector, dim)) else {
            return false;
        };
        let close = |(a, b): (&f32, &f32)| (a / mine - b / its).abs() <= Self::SAME_TOLERANCE;
        (&self.id, &self.product_id, &self.metadata) == (&other.id, &other.product_id, &other.metadata)
            && self.vector.iter().zip(&other.vector).all(close)
    }
}

/// A change to the metadata of an item; its vector and product stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The item.
    pub id: String,
    /// Merged into the metadata as RFC 7396 says: a null removes its key, an object is merged key by key, anything else replaces.
    pub metadata: Map<String, Value>,
}

impl Patch {
    /// Changes the metadata.
    pub fn apply(&self, metadata: &mut Map<String, Value>) {
        merge(metadata, &self.metadata);
    }
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, change) in patch {
        match change {
            Value::Null => drop(target.remove(key)),
            Value::Object(inner) => {
                let entry = target.entry(key.as_str()).or_insert(Value::Null);
                let mut merged = match entry.take() {
                    Value::Object(old) => old,
                    _ => Map::new(),
                };
                merge(&mut merged, inner);
                *entry = Value::Object(merged);
            }
            other => drop(target.insert(key.clone(), other.clone())),
        }
    }
}

/// A product and how many images show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSummary {
    /// The product.
    pub product_id: String,
    /// Items that show it, at least 1.
    pub items: usize,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Examples of RFC 7396, appendix A, whose targets and patches are objects.
    #[test]
    fn patches_merge_as_the_standard_says() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let object = |value: &Value| value.as_object().cloned().expect("an object");
            let mut found = object(&target);
            Patch { id: "x".into(), metadata: object(&patch) }.apply(&mut found);
            assert_eq!(Value::Object(found), expected, "{target} and {patch}");
        }
    }
}
