//! Calls about points.

use std::sync::Arc;

use qdrant_client::qdrant::{
    CountPoints, CreateFieldIndexCollection, DeletePoints, FacetCounts, FacetHit,
    FacetValue as WireFacetValue, GetPoints, PointStruct, PointsSelector, QueryPoints, RetrievedPoint,
    ScoredPoint, ScrollPoints, ScrollResponse, SetPayloadPoints, UpdateBatchPoints, UpsertPoints,
    facet_value, points_selector::PointsSelectorOneOf, points_update_operation::Operation, query, start_from,
    vector_input,
};
use qdrant_edge::{
    ConditionalInsertOperation, CountRequest, FacetRequest, FacetValue, NamedQuery, Payload, PayloadOps,
    PointInsertOperations, PointOperations, QueryEnum, ScrollRequest, SearchRequest, SetPayloadOp,
    UpdateOperation, WithVector,
};
use serde_json::json;
use tonic::Status;

use crate::{
    convert,
    faults::{Fault, half_applied},
    filters,
    shard::{Collection, internal},
    store::Store,
};

/// The points of all collections.
#[derive(Clone)]
pub(crate) struct Points(pub(crate) Arc<Store>);

impl Points {
    fn collection(&self, name: &str) -> Result<Arc<Collection>, Status> {
        self.0.get(name)
    }

    pub(crate) fn upsert(&self, request: UpsertPoints) -> Result<(), Status> {
        let collection = self.collection(&request.collection_name)?;
        let fault = self.0.faults.next();
        let mut points = request.points;
        if fault == Fault::Half {
            points.truncate(points.len() / 2);
        }
        collection.write(vec![upsert(points, request.update_filter)?])?;
        ended(fault)
    }

    pub(crate) fn delete(&self, request: DeletePoints) -> Result<(), Status> {
        let collection = self.collection(&request.collection_name)?;
        let fault = self.0.faults.next();
        let operation = match selected(request.points)? {
            PointsSelectorOneOf::Points(ids) => {
                let mut ids: Vec<_> =
                    ids.ids.into_iter().map(|id| convert::id(Some(id))).collect::<Result<_, _>>()?;
                if fault == Fault::Half {
                    ids.truncate(ids.len() / 2);
                }
                PointOperations::DeletePoints { ids }
            }
            PointsSelectorOneOf::Filter(filter) => {
                PointOperations::DeletePointsByFilter(filters::filter(Some(filter))?.unwrap_or_default())
            }
        };
        collection.write(vec![UpdateOperation::PointOperation(operation)])?;
        ended(fault)
    }

    pub(crate) fn set_payload(&self, request: SetPayloadPoints) -> Result<(), Status> {
        let collection = self.collection(&request.collection_name)?;
        let fault = self.0.faults.next();
        collection.write(vec![set_payload(request.payload, request.points_selector)?])?;
        ended(fault)
    }

    pub(crate) fn update_batch(&self, request: UpdateBatchPoints) -> Result<usize, Status> {
        let collection = self.collection(&request.collection_name)?;
        let fault = self.0.faults.next();
        let mut operations = Vec::new();
        for operation in request.operations {
            operations.push(match operation.operation {
                Some(Operation::SetPayload(set)) => set_payload(set.payload, set.points_selector)?,
                Some(Operation::Upsert(list)) => upsert(list.points, list.update_filter)?,
                _ => return Err(Status::unimplemented("a kind of update")),
            });
        }
        if fault == Fault::Half {
            operations.truncate(operations.len() / 2);
        }
        let count = operations.len();
        collection.write(operations)?;
        ended(fault)?;
        Ok(count)
    }

    pub(crate) fn create_index(&self, request: CreateFieldIndexCollection) -> Result<(), Status> {
        let kind = request.field_type.ok_or_else(|| Status::unimplemented("an index without its type"))?;
        self.collection(&request.collection_name)?.create_index(request.field_name, kind)
    }

    pub(crate) fn get(&self, request: GetPoints) -> Result<Vec<RetrievedPoint>, Status> {
        let collection = self.collection(&request.collection_name)?;
        let ids: Vec<_> =
            request.ids.into_iter().map(|id| convert::id(Some(id))).collect::<Result<_, _>>()?;
        let payload = convert::with_payload(request.with_payload)?;
        let vectors = WithVector::Bool(wants(request.with_vectors.as_ref()));
        let found = collection.read(|shard| shard.retrieve(&ids, Some(payload), Some(vectors)))?;
        Ok(found.into_iter().map(convert::record).collect())
    }

    pub(crate) fn scroll(&self, request: ScrollPoints) -> Result<ScrollResponse, Status> {
        let collection = self.collection(&request.collection_name)?;
        let order_by = request.order_by.map(|order| {
            let from = order.start_from.and_then(|start| start.value).and_then(|value| match value {
                start_from::Value::Integer(number) => Some(json!(number)),
                start_from::Value::Float(number) => Some(json!(number)),
                _ => None,
            });
            serde_json::from_value(json!({ "key": order.key, "start_from": from }))
        });
        let scroll = ScrollRequest {
            offset: request.offset.map(|id| convert::id(Some(id))).transpose()?,
            limit: Some(request.limit.unwrap_or(10) as usize),
            filter: filters::filter(request.filter)?,
            with_payload: Some(convert::with_payload(request.with_payload)?),
            with_vector: WithVector::Bool(wants(request.with_vectors.as_ref())),
            order_by: order_by.transpose().map_err(internal)?,
        };
        let (found, next) = collection.read(|shard| shard.scroll(scroll))?;
        Ok(ScrollResponse {
            next_page_offset: next.map(convert::wire_id),
            result: found.into_iter().map(convert::record).collect(),
            ..ScrollResponse::default()
        })
    }

    pub(crate) fn count(&self, request: CountPoints) -> Result<u64, Status> {
        let collection = self.collection(&request.collection_name)?;
        let count =
            CountRequest { filter: filters::filter(request.filter)?, exact: request.exact.unwrap_or(true) };
        collection.read(|shard| shard.count(count)).map(|count| count as u64)
    }

    pub(crate) fn query(&self, request: QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
        let collection = self.collection(&request.collection_name)?;
        let nearest = match request.query.and_then(|query| query.variant) {
            Some(query::Variant::Nearest(input)) => input.variant,
            _ => return Err(Status::unimplemented("only the nearest of a vector")),
        };
        let Some(vector_input::Variant::Dense(dense)) = nearest else {
            return Err(Status::unimplemented("only the nearest of a vector"));
        };
        if request.limit == Some(0) {
            return Err(Status::invalid_argument("limit is at least 1"));
        }
        let params = request.params.map(|params| {
            let quantisation = params.quantization.map(|quantisation| {
                json!({ "ignore": quantisation.ignore.unwrap_or(false), "rescore": quantisation.rescore,
                    "oversampling": quantisation.oversampling })
            });
            serde_json::from_value(json!({ "hnsw_ef": params.hnsw_ef, "exact": params.exact.unwrap_or(false),
                "quantization": quantisation }))
        });
        let search = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery::default_dense(dense.data)),
            filter: filters::filter(request.filter)?,
            params: params.transpose().map_err(internal)?,
            limit: request.limit.unwrap_or(10) as usize,
            offset: request.offset.unwrap_or(0) as usize,
            with_payload: Some(convert::with_payload(request.with_payload)?),
            with_vector: Some(WithVector::Bool(wants(request.with_vectors.as_ref()))),
            score_threshold: request.score_threshold,
        };
        let found = collection.read(|shard| shard.search(search))?;
        let scored = |point: qdrant_edge::ScoredPoint| ScoredPoint {
            id: Some(convert::wire_id(point.id)),
            payload: convert::wire_payload(point.payload),
            score: point.score,
            vectors: convert::wire_vector(point.vector),
            ..ScoredPoint::default()
        };
        Ok(found.into_iter().map(scored).collect())
    }

    pub(crate) fn facet(&self, request: FacetCounts) -> Result<Vec<FacetHit>, Status> {
        let collection = self.collection(&request.collection_name)?;
        let facet = FacetRequest {
            key: request.key.parse().map_err(|()| Status::invalid_argument("key"))?,
            limit: request.limit.unwrap_or(10) as usize,
            filter: filters::filter(request.filter)?,
            exact: request.exact.unwrap_or(false),
        };
        let found = collection.read(|shard| shard.facet(facet))?;
        let hit = |value: FacetValue, count: usize| {
            let variant = match value {
                FacetValue::Keyword(text) => facet_value::Variant::StringValue(text),
                FacetValue::Int(number) => facet_value::Variant::IntegerValue(number),
                FacetValue::Bool(value) => facet_value::Variant::BoolValue(value),
                FacetValue::Uuid(_) => return None,
            };
            Some(FacetHit { value: Some(WireFacetValue { variant: Some(variant) }), count: count as u64 })
        };
        Ok(found.hits.into_iter().filter_map(|found| hit(found.value, found.count)).collect())
    }
}

fn upsert(
    points: Vec<PointStruct>,
    update_filter: Option<qdrant_client::qdrant::Filter>,
) -> Result<UpdateOperation, Status> {
    let points = points.into_iter().map(convert::point).collect::<Result<_, _>>()?;
    let points = PointInsertOperations::PointsList(points);
    let operation = match filters::filter(update_filter)? {
        None => PointOperations::UpsertPoints(points),
        Some(condition) => PointOperations::UpsertPointsConditional(ConditionalInsertOperation {
            points_op: points,
            condition,
            update_mode: None,
        }),
    };
    Ok(UpdateOperation::PointOperation(operation))
}

fn set_payload(
    payload: std::collections::HashMap<String, qdrant_client::qdrant::Value>,
    selector: Option<PointsSelector>,
) -> Result<UpdateOperation, Status> {
    let payload = Payload(convert::object(payload));
    let (points, filter) = match selected(selector)? {
        PointsSelectorOneOf::Points(ids) => {
            (Some(ids.ids.into_iter().map(|id| convert::id(Some(id))).collect::<Result<_, _>>()?), None)
        }
        PointsSelectorOneOf::Filter(filter) => (None, filters::filter(Some(filter))?),
    };
    let operation = PayloadOps::SetPayload(SetPayloadOp { payload, points, filter, key: None });
    Ok(UpdateOperation::PayloadOperation(operation))
}

fn selected(selector: Option<PointsSelector>) -> Result<PointsSelectorOneOf, Status> {
    let selected = selector.and_then(|selector| selector.points_selector_one_of);
    selected.ok_or_else(|| Status::invalid_argument("PointsSelector is missing"))
}

fn wants(selector: Option<&qdrant_client::qdrant::WithVectorsSelector>) -> bool {
    use qdrant_client::qdrant::with_vectors_selector::SelectorOptions;
    selector.is_some_and(|selector| matches!(selector.selector_options, Some(SelectorOptions::Enable(true))))
}

fn ended(fault: Fault) -> Result<(), Status> {
    match fault {
        Fault::None => Ok(()),
        Fault::Half | Fault::After => Err(half_applied()),
        Fault::Stall => {
            std::thread::sleep(std::time::Duration::from_secs(60));
            Ok(())
        }
    }
}
