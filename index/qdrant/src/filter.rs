//! From a filter to Qdrant's conditions, with the same meaning.
//!
//! A metadata field lies in the payload under `fields` and its name, in which `%`, `"` and `\` are written `%25`, `%22` and
//! `%5C`: Qdrant's paths have no way to quote them. Numbers are stored as doubles, which is how filters compare them.

use std::collections::HashMap;

use dfml_index::{Filter, Scalar};
use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter as Conditions, HasIdCondition, ListValue, Match, Range,
    RepeatedStrings, Struct, Value, condition::ConditionOneOf, r#match::MatchValue, value::Kind,
};
use serde_json::Map;

/// Key of the product's id.
pub(crate) const PRODUCT: &str = "product";
/// Key of what filters see of the metadata.
pub(crate) const FIELDS: &str = "fields";

/// The conditions that a point must meet.
pub(crate) fn conditions(filter: &Filter) -> Conditions {
    Conditions { must: vec![condition(filter)], ..Conditions::default() }
}

fn condition(filter: &Filter) -> Condition {
    match filter {
        Filter::Equals { field, value } => equals(&path(field), value),
        Filter::AnyOf { field, values } => any_of(&path(field), values),
        Filter::Range { field, min, max } => range(&path(field), *min, *max),
        Filter::Products(ids) => products(ids.clone()),
        Filter::And(all) => match all.is_empty() {
            true => not(never()),
            false => {
                nested(Conditions { must: all.iter().map(condition).collect(), ..Conditions::default() })
            }
        },
        Filter::Or(any) => or(any.iter().map(condition).collect()),
        Filter::Not(filter) => not(condition(filter)),
    }
}

fn equals(key: &str, value: &Scalar) -> Condition {
    match value {
        Scalar::Bool(value) => matching(key, MatchValue::Boolean(*value)),
        Scalar::Number(number) => range(key, Some(*number), Some(*number)),
        Scalar::Text(text) => matching(key, MatchValue::Keyword(text.clone())),
    }
}

fn any_of(key: &str, values: &[Scalar]) -> Condition {
    let mut texts = Vec::new();
    let mut conditions = Vec::new();
    for value in values {
        match value {
            Scalar::Text(text) => texts.push(text.clone()),
            other => conditions.push(equals(key, other)),
        }
    }
    if !texts.is_empty() {
        conditions.push(matching(key, MatchValue::Keywords(RepeatedStrings { strings: texts })));
    }
    or(conditions)
}

/// A number within the bounds. Stored numbers are finite, so that an infinite bound either does not bind or cannot be met.
fn range(key: &str, min: Option<f64>, max: Option<f64>) -> Condition {
    let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
    if min.is_nan() || max.is_nan() || min > max || min == f64::INFINITY || max == f64::NEG_INFINITY {
        return never();
    }
    // With both bounds, so that text is not within them.
    let range = Range { gte: Some(min.max(f64::MIN)), lte: Some(max.min(f64::MAX)), ..Range::default() };
    field(FieldCondition { key: key.into(), range: Some(range), ..FieldCondition::default() })
}

/// The item shows one of these products.
pub(crate) fn products(ids: Vec<String>) -> Condition {
    match ids.is_empty() {
        true => never(),
        false => matching(PRODUCT, MatchValue::Keywords(RepeatedStrings { strings: ids })),
    }
}

/// The item is one of these points.
pub(crate) fn points(ids: &[String]) -> Condition {
    let has_id = ids.iter().map(|id| super::ids::point_id(id)).collect();
    Condition { condition_one_of: Some(ConditionOneOf::HasId(HasIdCondition { has_id })) }
}

pub(crate) fn matching(key: &str, value: MatchValue) -> Condition {
    let r#match = Some(Match { match_value: Some(value) });
    field(FieldCondition { key: key.into(), r#match, ..FieldCondition::default() })
}

pub(crate) fn field(condition: FieldCondition) -> Condition {
    Condition { condition_one_of: Some(ConditionOneOf::Field(condition)) }
}

fn nested(conditions: Conditions) -> Condition {
    Condition { condition_one_of: Some(ConditionOneOf::Filter(conditions)) }
}

/// The condition is not met. Nested, even where the conditions have a place for it: the engine (1.20) passes over what stands there
/// if it is the very condition that the points are looked up by.
pub(crate) fn not(condition: Condition) -> Condition {
    nested(Conditions { must_not: vec![condition], ..Conditions::default() })
}

fn or(conditions: Vec<Condition>) -> Condition {
    match conditions.is_empty() {
        true => never(),
        false => nested(Conditions { should: conditions, ..Conditions::default() }),
    }
}

/// No point is none of the points.
fn never() -> Condition {
    points(&[])
}

/// Path of a metadata field in the payload.
pub(crate) fn path(field: &str) -> String {
    let key = escaped(field);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(plain) {
        true => format!("{FIELDS}.{key}"),
        false => format!("{FIELDS}.\"{key}\""),
    }
}

fn escaped(field: &str) -> String {
    field.replace('%', "%25").replace('"', "%22").replace('\\', "%5C")
}

/// What filters see of the metadata.
pub(crate) fn fields(metadata: &Map<String, serde_json::Value>) -> Value {
    let mut fields = HashMap::new();
    for (name, value) in metadata {
        let mut seen: Vec<Value> = Scalar::of_field(value).into_iter().map(scalar).collect();
        let value = match seen.len() {
            0 => continue,
            1 => seen.remove(0),
            _ => Value { kind: Some(Kind::ListValue(ListValue { values: seen })) },
        };
        fields.insert(escaped(name), value);
    }
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn scalar(scalar: Scalar) -> Value {
    let kind = match scalar {
        Scalar::Bool(value) => Kind::BoolValue(value),
        Scalar::Number(value) => Kind::DoubleValue(value),
        Scalar::Text(text) => Kind::StringValue(text),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_parsed_by_the_engine() {
        assert_eq!(path("width_cm"), "fields.width_cm");
        assert_eq!(path("a.b c"), "fields.\"a.b c\"");
        assert_eq!(path("100 % \"new\" \\"), "fields.\"100 %25 %22new%22 %5C\"");
        assert_eq!(path(""), "fields.\"\"");
        assert_ne!(path("%22"), path("\""), "two names are two paths");
    }

    #[test]
    fn bounds_that_nothing_meets_become_no_range() {
        let is_never = |condition: Condition| condition == never();
        assert!(is_never(range("x", Some(f64::NAN), None)));
        assert!(is_never(range("x", Some(2.0), Some(1.0))));
        assert!(is_never(range("x", Some(f64::INFINITY), None)));
        assert!(is_never(condition(&Filter::Or(vec![]))) && is_never(products(vec![])));
        assert!(!is_never(range("x", Some(f64::NEG_INFINITY), Some(f64::INFINITY))));
    }
}
