//! Conditions on items: a small expression tree over metadata fields and product ids.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A condition that an item meets or not.
///
/// Fields are keys of [`Item::metadata`](crate::Item::metadata). Where a field holds a list (tags), the condition is met if one of its
/// elements meets it. An item that does not have the field does not meet the condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(no_recursion))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    /// The field has this value.
    Equals {
        /// Metadata key.
        field: String,
        /// The value.
        value: Scalar,
    },
    /// The field has one of these values.
    AnyOf {
        /// Metadata key.
        field: String,
        /// The values.
        values: Vec<Scalar>,
    },
    /// The field is a number within these bounds; a bound that is not given does not bind.
    Range {
        /// Metadata key.
        field: String,
        /// At least.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// At most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// The item shows one of these products.
    Products(Vec<String>),
    /// All conditions are met; true if there are none.
    And(Vec<Filter>),
    /// At least one condition is met; false if there are none.
    Or(Vec<Filter>),
    /// The condition is not met.
    Not(Box<Filter>),
}

/// A value that a metadata field is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Scalar {
    /// true or false.
    Bool(bool),
    /// A number; integers above 2^53 are compared after rounding to a double.
    Number(f64),
    /// Text, compared byte for byte.
    Text(String),
}

impl Scalar {
    /// The scalar in a JSON value; `None` for null, lists and objects.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(value) => value.as_f64().map(Self::Number),
            Value::String(value) => Some(Self::Text(value.clone())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(_) | Self::Number(_) => None,
        }
    }

    /// What a filter sees of a metadata field: its value, or the elements of its list.
    pub fn of_field(value: &Value) -> Vec<Self> {
        match value {
            Value::Array(list) => list.iter().filter_map(Self::of).collect(),
            other => Self::of(other).into_iter().collect(),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Filter {
    /// The field has this text.
    pub fn equals(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Equals { field: field.into(), value: Scalar::Text(text.into()) }
    }

    /// The field is a number in `min..=max`.
    pub fn range(field: impl Into<String>, min: impl Into<Option<f64>>, max: impl Into<Option<f64>>) -> Self {
        Self::Range { field: field.into(), min: min.into(), max: max.into() }
    }

    /// Whether an item of this product and metadata meets the condition. The index itself answers from bitmaps.
    pub fn matches(&self, product_id: &str, metadata: &Map<String, Value>) -> bool {
        let field_is = |field: &str, condition: &dyn Fn(&Scalar) -> bool| {
            metadata.get(field).is_some_and(|value| Scalar::of_field(value).iter().any(condition))
        };
        match self {
            Self::Equals { field, value } => field_is(field, &|found| found == value),
            Self::AnyOf { field, values } => field_is(field, &|found| values.contains(found)),
            Self::Range { field, min, max } => field_is(field, &|found| match found {
                Scalar::Number(number) => {
                    min.is_none_or(|min| *number >= min) && max.is_none_or(|max| *number <= max)
                }
                Scalar::Bool(_) | Scalar::Text(_) => false,
            }),
            Self::Products(ids) => ids.iter().any(|id| id == product_id),
            Self::And(all) => all.iter().all(|filter| filter.matches(product_id, metadata)),
            Self::Or(any) => any.iter().any(|filter| filter.matches(product_id, metadata)),
            Self::Not(filter) => !filter.matches(product_id, metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lamp(filter: &Filter) -> bool {
        let metadata = json!({"category": "Lamps", "tags": ["red", "metal"], "height_cm": 42, "new": true, "size": null});
        filter.matches("p1", metadata.as_object().expect("an object"))
    }

    #[test]
    fn conditions_look_into_lists_and_numbers() {
        assert!(lamp(&Filter::equals("category", "Lamps")));
        assert!(!lamp(&Filter::equals("category", "lamps")));
        assert!(lamp(&Filter::equals("tags", "metal")));
        assert!(lamp(&Filter::range("height_cm", 42.0, None)));
        assert!(!lamp(&Filter::range("height_cm", None, 41.9)));
        assert!(!lamp(&Filter::range("category", None, None)), "text is no number");
        assert!(lamp(&Filter::Equals { field: "new".into(), value: Scalar::Bool(true) }));
        assert!(!lamp(&Filter::equals("absent", "")));
        assert!(!lamp(&Filter::equals("size", "null")));
        assert!(lamp(&Filter::Products(vec!["p0".into(), "p1".into()])));
    }

    #[test]
    fn and_or_not_combine() {
        let yes = Filter::equals("tags", "red");
        let no = Filter::equals("tags", "blue");
        assert!(lamp(&Filter::And(vec![])) && !lamp(&Filter::Or(vec![])));
        assert!(lamp(&Filter::Or(vec![no.clone(), yes.clone()])));
        assert!(!lamp(&Filter::And(vec![no.clone(), yes])));
        assert!(lamp(&Filter::Not(Box::new(no))));
    }

    #[test]
    fn json_round_trip_and_unknown_conditions() {
        let text = r#"{"and":[{"equals":{"field":"category","value":"Lamps"}},{"not":{"range":{"field":"height_cm","min":50.0}}}]}"#;
        let filter: Filter = serde_json::from_str(text).expect("a filter");
        assert!(lamp(&filter));
        assert_eq!(serde_json::to_string(&filter).expect("serialises"), text);
        assert!(serde_json::from_str::<Filter>(r#"{"near":{}}"#).is_err());
    }
}
