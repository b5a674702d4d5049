//! Payloads, ids and vectors between the wire and the engine.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    ListValue, PointId, PointStruct, RetrievedPoint, Struct, Value, VectorOutput, Vectors, VectorsOutput,
    WithPayloadSelector, point_id::PointIdOptions, value::Kind, vector, vector_output,
    vectors::VectorsOptions, vectors_output, with_payload_selector::SelectorOptions,
};
use qdrant_edge::{
    DEFAULT_VECTOR_NAME, Payload, PointId as EngineId, PointStructPersisted, Record, VectorInternal,
    VectorStructInternal, VectorStructPersisted, WithPayloadInterface,
};
use serde_json::{Map, Value as Json};
use tonic::Status;

pub(crate) fn id(id: Option<PointId>) -> Result<EngineId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(EngineId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => match text.parse() {
            Ok(uuid) => Ok(EngineId::Uuid(uuid)),
            Err(_) => Err(Status::invalid_argument(format!("Unable to parse UUID: {text}"))),
        },
        None => Err(Status::invalid_argument("Empty point id")),
    }
}

pub(crate) fn wire_id(id: EngineId) -> PointId {
    let options = match id {
        EngineId::NumId(number) => PointIdOptions::Num(number),
        EngineId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    PointId { point_id_options: Some(options) }
}

pub(crate) fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::IntegerValue(value)) => value.into(),
        Some(Kind::DoubleValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(fields)) => Json::Object(object(fields.fields)),
    }
}

pub(crate) fn object(fields: HashMap<String, Value>) -> Map<String, Json> {
    fields.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn wire_value(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Kind::IntegerValue(integer),
            None => Kind::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Kind::StringValue(text),
        Json::Array(list) => {
            Kind::ListValue(ListValue { values: list.into_iter().map(wire_value).collect() })
        }
        Json::Object(fields) => Kind::StructValue(Struct { fields: wire_fields(fields) }),
    };
    Value { kind: Some(kind) }
}

fn wire_fields(fields: Map<String, Json>) -> HashMap<String, Value> {
    fields.into_iter().map(|(key, value)| (key, wire_value(value))).collect()
}

pub(crate) fn wire_payload(payload: Option<Payload>) -> HashMap<String, Value> {
    payload.map(|payload| wire_fields(payload.0)).unwrap_or_default()
}

pub(crate) fn point(point: PointStruct) -> Result<PointStructPersisted, Status> {
    let vector = dense(point.vectors)?;
    let payload = Payload(object(point.payload));
    let id = id(point.id)?;
    Ok(PointStructPersisted { id, vector: VectorStructPersisted::Single(vector), payload: Some(payload) })
}

#[expect(deprecated, reason = "clients before 1.16 send vectors that way")]
fn dense(vectors: Option<Vectors>) -> Result<Vec<f32>, Status> {
    match vectors.and_then(|vectors| vectors.vectors_options) {
        Some(VectorsOptions::Vector(found)) => match found.vector {
            Some(vector::Vector::Dense(dense)) => Ok(dense.data),
            None => Ok(found.data),
            Some(_) => Err(Status::unimplemented("only dense vectors")),
        },
        _ => Err(Status::unimplemented("only points with one vector that has no name")),
    }
}

pub(crate) fn wire_vector(vector: Option<VectorStructInternal>) -> Option<VectorsOutput> {
    let data = match vector? {
        VectorStructInternal::Single(data) => data,
        VectorStructInternal::Named(mut named) => match named.remove(DEFAULT_VECTOR_NAME)? {
            VectorInternal::Dense(data) => data,
            _ => return None,
        },
        VectorStructInternal::MultiDense(_) => return None,
    };
    let output =
        VectorOutput { vector: Some(vector_output::Vector::Dense(data.into())), ..VectorOutput::default() };
    Some(VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vector(output)) })
}

pub(crate) fn record(record: Record) -> RetrievedPoint {
    RetrievedPoint {
        id: Some(wire_id(record.id)),
        payload: wire_payload(record.payload),
        vectors: wire_vector(record.vector),
        ..RetrievedPoint::default()
    }
}

pub(crate) fn with_payload(selector: Option<WithPayloadSelector>) -> Result<WithPayloadInterface, Status> {
    let json = match selector.and_then(|selector| selector.selector_options) {
        None => Json::Bool(false),
        Some(SelectorOptions::Enable(yes)) => Json::Bool(yes),
        Some(SelectorOptions::Include(include)) => serde_json::json!({ "include": include.fields }),
        Some(SelectorOptions::Exclude(exclude)) => serde_json::json!({ "exclude": exclude.fields }),
    };
    serde_json::from_value(json).map_err(|error| Status::invalid_argument(error.to_string()))
}
