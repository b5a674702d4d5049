//! Conditions of the wire as those of the engine, by way of the JSON that both document.

use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter, condition::ConditionOneOf, r#match::MatchValue,
};
use serde_json::{Map, Value, json};
use tonic::Status;

use crate::convert;

pub(crate) fn filter(filter: Option<Filter>) -> Result<Option<qdrant_edge::Filter>, Status> {
    let Some(filter) = filter else { return Ok(None) };
    if filter == Filter::default() {
        return Ok(None);
    }
    serde_json::from_value(clauses(filter)?)
        .map(Some)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn clauses(filter: Filter) -> Result<Value, Status> {
    if filter.min_should.is_some() {
        return Err(Status::unimplemented("min_should"));
    }
    let mut clauses = Map::new();
    for (name, conditions) in
        [("must", filter.must), ("should", filter.should), ("must_not", filter.must_not)]
    {
        if !conditions.is_empty() {
            let conditions: Vec<Value> = conditions.into_iter().map(condition).collect::<Result<_, _>>()?;
            clauses.insert(name.to_owned(), conditions.into());
        }
    }
    Ok(clauses.into())
}

fn condition(condition: Condition) -> Result<Value, Status> {
    match condition.condition_one_of {
        Some(ConditionOneOf::Field(condition)) => field(condition),
        Some(ConditionOneOf::HasId(ids)) => {
            let ids = ids.has_id.into_iter().map(|id| convert::id(Some(id)).map(|id| id.to_string()));
            Ok(json!({ "has_id": ids.collect::<Result<Vec<_>, _>>()? }))
        }
        Some(ConditionOneOf::Filter(nested)) => clauses(nested),
        _ => Err(Status::unimplemented("a kind of condition")),
    }
}

fn field(condition: FieldCondition) -> Result<Value, Status> {
    let FieldCondition { key, r#match, range, .. } = condition;
    if let Some(range) = range {
        let bounds = [("lt", range.lt), ("gt", range.gt), ("gte", range.gte), ("lte", range.lte)];
        let bounds: Map<String, Value> =
            bounds.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), bound?.into()))).collect();
        return Ok(json!({ "key": key, "range": bounds }));
    }
    let matching = match r#match.and_then(|found| found.match_value) {
        Some(MatchValue::Keyword(text)) => json!({ "value": text }),
        Some(MatchValue::Integer(number)) => json!({ "value": number }),
        Some(MatchValue::Boolean(value)) => json!({ "value": value }),
        Some(MatchValue::Keywords(texts)) => json!({ "any": texts.strings }),
        Some(MatchValue::Integers(numbers)) => json!({ "any": numbers.integers }),
        _ => return Err(Status::unimplemented("a kind of match")),
    };
    Ok(json!({ "key": key, "match": matching }))
}
