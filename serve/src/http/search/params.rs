//! Search parameters as text, the same ones in the query string and in form fields.

use serde::de::DeserializeOwned;

use super::{
    super::{ApiError, error::shortened},
    request::{CropBox, GroupBy, SearchBody},
};

const KNOWN: &str = "k, offset, category, filter, threshold, min_probability, exact, effort, group_by, crop, item_id, \
                     product_id, positive, negative, include_vectors, exclude_examples";
/// Longest category name that is looked up.
const CATEGORY_BYTES_MAX: usize = 256;

impl SearchBody {
    /// Sets one parameter from its text. An empty value is as good as none: forms send empty fields.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let value = value.trim();
        match name {
            _ if value.is_empty() && KNOWN.split(", ").any(|known| known.trim() == name) => {}
            "k" => self.k = Some(number("k", value)?),
            "offset" => self.offset = number("offset", value)?,
            "effort" => self.effort = Some(number("effort", value)?),
            "category" if value.len() > CATEGORY_BYTES_MAX => {
                return Err(invalid("category", value, format!("at most {CATEGORY_BYTES_MAX} bytes")));
            }
            "category" => self.category = Some(value.to_owned()),
            "item_id" => self.item_id = Some(value.to_owned()),
            "product_id" => self.product_id = Some(value.to_owned()),
            "threshold" => self.threshold = Some(real("threshold", value)?),
            "min_probability" => self.min_probability = Some(real("min_probability", value)?),
            "exact" => self.exact = boolean("exact", value)?,
            "include_vectors" => self.include_vectors = boolean("include_vectors", value)?,
            "exclude_examples" => self.exclude_examples = boolean("exclude_examples", value)?,
            "group_by" => {
                self.group_by = match value {
                    "product" => GroupBy::Product,
                    "item" => GroupBy::Item,
                    _ => return Err(invalid("group_by", value, "product or item".to_owned())),
                };
            }
            "filter" => self.filter = Some(json("filter", value)?),
            "positive" => self.positive = json("positive", value)?,
            "negative" => self.negative = json("negative", value)?,
            "crop" => self.crop = Some(rectangle(value)?),
            _ => return Err(ApiError::UnknownParameter { name: shortened(name), known: KNOWN }),
        }
        Ok(())
    }

    /// Sets the parameters of a query string.
    pub(super) fn set_query(&mut self, query: &str) -> Result<(), ApiError> {
        form_urlencoded::parse(query.as_bytes()).try_for_each(|(name, value)| self.set(&name, &value))
    }
}

fn number(name: &'static str, value: &str) -> Result<usize, ApiError> {
    value.parse().map_err(|_| invalid(name, value, "a whole number".to_owned()))
}

fn real(name: &'static str, value: &str) -> Result<f64, ApiError> {
    let parsed = value.parse::<f64>().ok().filter(|number| number.is_finite());
    parsed.ok_or_else(|| invalid(name, value, "a number".to_owned()))
}

fn boolean(name: &'static str, value: &str) -> Result<bool, ApiError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(name, value, "true or false".to_owned())),
    }
}

fn json<T: DeserializeOwned>(name: &'static str, value: &str) -> Result<T, ApiError> {
    serde_json::from_str(value).map_err(|error| {
        invalid(name, value, format!("JSON of the documented shape: {}", shortened(&error.to_string())))
    })
}

fn rectangle(value: &str) -> Result<CropBox, ApiError> {
    let numbers: Option<Vec<f64>> = value.split(',').map(|part| part.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[left, top, width, height]) => Ok(CropBox { left, top, width, height }),
        _ => Err(invalid(
            "crop",
            value,
            "four numbers, left,top,width,height, as shares of the picture".to_owned(),
        )),
    }
}

fn invalid(name: &'static str, value: &str, allowed: String) -> ApiError {
    ApiError::InvalidParameter { name, value: shortened(value), reason: format!("it must be {allowed}") }
}

#[cfg(test)]
mod tests {
    use dfml_index::Filter;

    use super::{super::request::Example, *};

    #[test]
    fn a_query_string_sets_every_parameter() {
        let mut body = SearchBody::default();
        body.set_query(
            "k=5&offset=10&category=Living+room%2FSofas&threshold=0.25&exact=true&group_by=item&crop=0.1,0.2,0.5,0.25\
             &filter=%7B%22equals%22%3A%7B%22field%22%3A%22tags%22%2C%22value%22%3A%22red%22%7D%7D&min_probability=0.5\
             &item_id=a%2Fb&product_id=7&negative=%5B%7B%22product_id%22%3A%229%22%7D%5D&include_vectors=1&effort=64\
             &exclude_examples=true",
        )
        .expect("all known");
        let expected = SearchBody {
            k: Some(5),
            offset: 10,
            category: Some("Living room/Sofas".to_owned()),
            threshold: Some(0.25),
            min_probability: Some(0.5),
            exact: true,
            effort: Some(64),
            group_by: GroupBy::Item,
            crop: Some(CropBox { left: 0.1, top: 0.2, width: 0.5, height: 0.25 }),
            filter: Some(Filter::equals("tags", "red")),
            item_id: Some("a/b".to_owned()),
            product_id: Some("7".to_owned()),
            negative: vec![Example::ProductId("9".to_owned())],
            include_vectors: true,
            exclude_examples: true,
            ..SearchBody::default()
        };
        assert_eq!(body, expected);
    }

    #[test]
    fn empty_values_are_none_and_wrong_ones_are_named() {
        let mut body = SearchBody::default();
        body.set_query("category=&k=&include_vectors=").expect("a form with nothing filled in");
        assert_eq!(body, SearchBody::default());
        for (query, named) in [
            ("k=many", "k"),
            ("threshold=NaN", "threshold"),
            ("exact=perhaps", "exact"),
            ("offset=-1", "offset"),
            ("group_by=shop", "group_by"),
            ("crop=1,2,3", "crop"),
            ("filter={}", "filter"),
            ("filter={\"near\":1}", "filter"),
        ] {
            match SearchBody::default().set_query(query) {
                Err(ApiError::InvalidParameter { name, .. }) => assert_eq!(name, named, "{query}"),
                other => panic!("{query} gave {other:?}"),
            }
        }
        let error = SearchBody::default().set_query("catgory=Sofas").expect_err("misspelt");
        assert!(
            error.to_string().contains("\"catgory\"") && error.to_string().contains("category"),
            "{error}"
        );
    }
}
