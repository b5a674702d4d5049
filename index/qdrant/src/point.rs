//! Items as points and back.

use std::collections::HashMap;

use dfml_index::Item;
use qdrant_client::qdrant::{
    DenseVector, PointStruct, Value, Vector, Vectors, VectorsOutput, WithPayloadSelector,
    WithVectorsSelector, value::Kind, vector, vector_output, vectors::VectorsOptions, with_payload_selector,
    with_vectors_selector,
};
use serde_json::Map;

use crate::{filter, ids};

pub(crate) const ID: &str = "id";
pub(crate) const METADATA: &str = "metadata";
pub(crate) const PRODUCT_HASH: &str = "product_hash";
pub(crate) const AT: &str = "at";
pub(crate) const REVISION: &str = "revision";

pub(crate) type Payload = HashMap<String, Value>;

/// A point that is not one of ours, as a sentence.
pub(crate) type Foreign = String;

/// An item as a point that was written at this moment.
pub(crate) fn of_item(item: Item, at: i64, revision: &str) -> PointStruct {
    let mut payload = changeable(&item.metadata, revision);
    payload.insert(AT.into(), integer(at));
    payload.insert(PRODUCT_HASH.into(), integer(ids::product_hash(&item.product_id)));
    let id = ids::point_id(&item.id);
    payload.insert(ID.into(), text(item.id));
    payload.insert(filter::PRODUCT.into(), text(item.product_id));
    let dense = vector::Vector::Dense(DenseVector { data: item.vector });
    let vectors = VectorsOptions::Vector(Vector { vector: Some(dense), ..Vector::default() });
    PointStruct { id: Some(id), payload, vectors: Some(Vectors { vectors_options: Some(vectors) }) }
}

/// What a patch replaces.
pub(crate) fn changeable(metadata: &Map<String, serde_json::Value>, revision: &str) -> Payload {
    let json = serde_json::Value::Object(metadata.clone()).to_string();
    HashMap::from([
        (METADATA.into(), text(json)),
        (filter::FIELDS.into(), filter::fields(metadata)),
        (REVISION.into(), text(revision.to_owned())),
    ])
}

/// A point's item, when it was written, and its last write's name.
pub(crate) struct Stored {
    pub(crate) item: Item,
    pub(crate) at: i64,
    pub(crate) revision: String,
}

/// A point as it is stored. Its vector is empty if it was not asked for.
pub(crate) fn to_item(mut payload: Payload, vectors: Option<VectorsOutput>) -> Result<Stored, Foreign> {
    let id = take_text(&mut payload, ID)?;
    let product_id = take_text(&mut payload, filter::PRODUCT)?;
    let json = take_text(&mut payload, METADATA)?;
    let metadata =
        serde_json::from_str(&json).map_err(|error| format!("the metadata of item {id:?}: {error}"))?;
    let vector = match vectors.and_then(|vectors| vectors.get_vector()) {
        Some(vector_output::Vector::Dense(dense)) => dense.data,
        Some(_) => return Err(format!("item {id:?} has another kind of vector")),
        None => Vec::new(),
    };
    let at = payload.get(AT).and_then(Value::as_integer).unwrap_or_default();
    let revision = take_text(&mut payload, REVISION).unwrap_or_default();
    Ok(Stored { item: Item { id, product_id, vector, metadata }, at, revision })
}

pub(crate) fn take_text(payload: &mut Payload, key: &str) -> Result<String, Foreign> {
    match payload.remove(key).and_then(|value| value.kind) {
        Some(Kind::StringValue(text)) => Ok(text),
        _ => Err(format!("the collection has a point without the text {key:?}, which dfml has not written")),
    }
}

pub(crate) fn text(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

pub(crate) fn integer(value: i64) -> Value {
    Value { kind: Some(Kind::IntegerValue(value)) }
}

/// Asks for these keys of the payload.
pub(crate) fn with_payload(keys: &[&str]) -> Option<WithPayloadSelector> {
    let fields = keys.iter().map(|&key| key.to_owned()).collect();
    let include = qdrant_client::qdrant::PayloadIncludeSelector { fields };
    Some(WithPayloadSelector {
        selector_options: Some(with_payload_selector::SelectorOptions::Include(include)),
    })
}

/// Asks for what makes an item.
pub(crate) fn with_item() -> Option<WithPayloadSelector> {
    with_payload(&[ID, filter::PRODUCT, METADATA, AT, REVISION])
}

pub(crate) fn with_vectors(yes: bool) -> Option<WithVectorsSelector> {
    Some(WithVectorsSelector { selector_options: Some(with_vectors_selector::SelectorOptions::Enable(yes)) })
}

#[cfg(test)]
mod tests {
    use qdrant_client::qdrant::{VectorOutput, vectors_output};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_survives_the_way_there_and_back() {
        let metadata =
            json!({"big": u64::MAX, "n": null, "deep": {"a": [1, [2.5, "x"]]}, "f": 1.0, "a\"b": true});
        let item = Item {
            id: "1".into(),
            product_id: "p".into(),
            vector: vec![0.6, 0.8],
            metadata: metadata.as_object().cloned().expect("an object"),
        };
        let point = of_item(item.clone(), 7, "r");
        let dense = vector_output::Vector::Dense(DenseVector { data: vec![0.6, 0.8] });
        let output = vectors_output::VectorsOptions::Vector(VectorOutput {
            vector: Some(dense),
            ..VectorOutput::default()
        });
        let stored =
            to_item(point.payload, Some(VectorsOutput { vectors_options: Some(output) })).expect("ours");
        assert_eq!(stored.item, item);
        assert_eq!((stored.at, stored.revision.as_str()), (7, "r"));
    }

    #[test]
    fn a_strange_point_is_an_error() {
        assert!(to_item(Payload::new(), None).err().expect("not ours").contains("has not written"));
    }
}
