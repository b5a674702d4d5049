//! What goes into an index, and how it is changed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{IndexError, request::length};

/// How far the length of a stored vector may be from 1.
const LENGTH_TOLERANCE: f64 = 1e-3;

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
    /// Largest metadata that a patch leaves an item with, in bytes of JSON; the server stores no larger ones either. An index takes
    /// what it is filled with all the same, such as the copy of an older catalogue.
    pub const METADATA_BYTES_MAX: usize = 64 << 10;
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
        let close = |(&a, &b): (&f32, &f32)| {
            (f64::from(a) / mine - f64::from(b) / its).abs() <= f64::from(Self::SAME_TOLERANCE)
        };
        (&self.id, &self.product_id, &self.metadata) == (&other.id, &other.product_id, &other.metadata)
            && self.vector.iter().zip(&other.vector).all(close)
    }
}

/// A change to the metadata of items, made to all of them or to none; their vectors and products stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The items; those that are not there are passed over.
    pub ids: BTreeSet<String>,
    /// Merged into the metadata as RFC 7396 says: a null removes its key, an object is merged key by key, anything else replaces.
    pub metadata: Map<String, Value>,
}

impl Patch {
    /// What the patch makes of the metadata of the item `id`.
    ///
    /// # Errors
    /// [`IndexError::InvalidItem`] if that is larger than [`Item::METADATA_BYTES_MAX`] and larger than it was: what is too large
    /// already can be made smaller step by step.
    pub fn merged(&self, id: &str, metadata: &Map<String, Value>) -> Result<Map<String, Value>, IndexError> {
        let mut merged = metadata.clone();
        merge(&mut merged, &self.metadata);
        let (bytes, most) = (json_bytes(&merged), Item::METADATA_BYTES_MAX);
        if bytes <= most || bytes <= json_bytes(metadata) {
            return Ok(merged);
        }
        let reason = format!("its metadata would have {bytes} bytes; at most {most} are kept");
        Err(IndexError::InvalidItem { id: id.to_owned(), reason })
    }
}

/// Length of the JSON text.
fn json_bytes(metadata: &Map<String, Value>) -> usize {
    // A map of JSON values always serialises: its keys are strings and its numbers are finite.
    serde_json::to_vec(metadata).map_or(0, |json| json.len())
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
            let change = Patch { ids: ["x".to_owned()].into(), metadata: object(&patch) };
            let found = change.merged("x", &object(&target)).expect("it is small");
            assert_eq!(Value::Object(found), expected, "{target} and {patch}");
        }
    }

    #[test]
    fn metadata_grows_to_the_limit_and_shrinks_from_beyond_it() {
        let most = Item::METADATA_BYTES_MAX;
        // `{"a":""}` has 8 bytes beside the text.
        let of_size = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
        let merged = |target: &Value, patch: Value| {
            let object = |value: &Value| value.as_object().cloned().expect("an object");
            let patch = Patch { ids: ["one".to_owned()].into(), metadata: object(&patch) };
            patch.merged("one", &object(target)).map(|merged| json_bytes(&merged))
        };
        assert_eq!(merged(&json!({}), of_size(most)).expect("just fits"), most);
        let error = merged(&of_size(most), json!({"b": 1})).expect_err("six bytes too many").to_string();
        assert!(error.contains("\"one\"") && error.contains("65542") && error.contains("65536"), "{error}");
        assert_eq!(merged(&of_size(most + 9), json!({})).expect("no larger than it was"), most + 9);
        assert_eq!(merged(&of_size(most + 9), of_size(most + 4)).expect("smaller"), most + 4);
        assert!(merged(&of_size(most + 9), of_size(most + 10)).is_err());
    }
}
