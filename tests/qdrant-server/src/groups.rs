//! Groups of points, which the engine's crate does not have.
//!
//! As the server does, it looks through the best points a few times, each time leaving out the groups that it has. So it may
//! come back with fewer groups than there are: whoever wants the rest has to ask again.

use std::collections::HashSet;

use qdrant_client::qdrant::{
    Condition, FieldCondition, GroupId, Match, PointGroup, QueryPointGroups, QueryPoints, RepeatedStrings,
    condition::ConditionOneOf, group_id, r#match::MatchValue, value::Kind,
};
use tonic::Status;

use crate::points::Points;

/// Times that the best points are looked through.
const ROUNDS: usize = 3;

impl Points {
    pub(crate) fn query_groups(&self, request: QueryPointGroups) -> Result<Vec<PointGroup>, Status> {
        let (limit, size) = (request.limit.unwrap_or(3), request.group_size.unwrap_or(3));
        if limit == 0 || size == 0 {
            return Err(Status::invalid_argument("limit and group_size are at least 1"));
        }
        let mut groups: Vec<PointGroup> = Vec::new();
        let mut named = HashSet::new();
        for _ in 0..ROUNDS {
            let mut filter = request.filter.clone().unwrap_or_default();
            if !named.is_empty() {
                filter.must_not.push(any_of(&request.group_by, named.iter().cloned().collect()));
            }
            let hits = self.query(QueryPoints {
                collection_name: request.collection_name.clone(),
                query: request.query.clone(),
                filter: Some(filter),
                params: request.params.clone(),
                score_threshold: request.score_threshold,
                limit: Some(limit.saturating_mul(size)),
                with_payload: request.with_payload.clone(),
                ..QueryPoints::default()
            })?;
            let known = named.clone();
            let mut fresh: Vec<PointGroup> = Vec::new();
            for hit in hits {
                let Some(Kind::StringValue(id)) =
                    hit.payload.get(&request.group_by).and_then(|id| id.kind.clone())
                else {
                    return Err(Status::unimplemented(
                        "groups by what is no text, or is not in the payload asked for",
                    ));
                };
                if known.contains(&id) {
                    continue;
                }
                let kind = Some(group_id::Kind::StringValue(id.clone()));
                match fresh.iter_mut().find(|group| group.id.as_ref().is_some_and(|found| found.kind == kind))
                {
                    Some(group) if (group.hits.len() as u64) < size => group.hits.push(hit),
                    Some(_) => {}
                    None => {
                        named.insert(id);
                        fresh.push(PointGroup { id: Some(GroupId { kind }), hits: vec![hit], lookup: None });
                    }
                }
            }
            let none = fresh.is_empty();
            groups.extend(fresh);
            if none || groups.len() as u64 >= limit {
                break;
            }
        }
        groups.truncate(limit as usize);
        Ok(groups)
    }
}

fn any_of(key: &str, strings: Vec<String>) -> Condition {
    let r#match = Some(Match { match_value: Some(MatchValue::Keywords(RepeatedStrings { strings })) });
    let field = FieldCondition { key: key.to_owned(), r#match, ..FieldCondition::default() };
    Condition { condition_one_of: Some(ConditionOneOf::Field(field)) }
}
