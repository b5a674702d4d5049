//! The parameters of a search, the same ones in the query string and in form fields.

use super::{ApiError, error::shortened};

const KNOWN: &str = "k, offset, category, threshold, exact, group";
/// Longest category name that is looked up.
const CATEGORY_BYTES_MAX: usize = 256;

/// What a search is asked for beside its image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SearchParams {
    /// Most results, at least 1.
    pub(super) k: Option<usize>,
    /// Results to leave out from the top.
    pub(super) offset: usize,
    /// Only products of this category.
    pub(super) category: Option<String>,
    /// Only results with at least this cosine similarity, -1 to 1.
    pub(super) threshold: Option<f32>,
    /// Compare with every vector instead of using the approximate index.
    pub(super) exact: bool,
    /// One result per product (the default) instead of one per image.
    pub(super) per_image: bool,
}

impl SearchParams {
    /// Sets one parameter from its text. An empty value is as good as none: forms send empty fields.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let value = value.trim();
        match name {
            _ if value.is_empty() && KNOWN.split(", ").any(|known| known == name) => {}
            "k" => self.k = Some(number("k", value)?),
            "offset" => self.offset = number("offset", value)?,
            "category" if value.len() > CATEGORY_BYTES_MAX => {
                return Err(invalid("category", value, format!("at most {CATEGORY_BYTES_MAX} bytes")));
            }
            "category" => self.category = Some(value.to_owned()),
            "threshold" => self.threshold = Some(similarity(value)?),
            "exact" => self.exact = boolean("exact", value)?,
            "group" => self.per_image = !boolean("group", value)?,
            _ => return Err(ApiError::UnknownParameter { name: shortened(name), known: KNOWN }),
        }
        Ok(())
    }

    /// Sets the parameters of a query string.
    pub(super) fn set_query(&mut self, query: &str) -> Result<(), ApiError> {
        form_urlencoded::parse(query.as_bytes()).try_for_each(|(name, value)| self.set(&name, &value))
    }

    /// How many results are wanted, or why not so many.
    pub(super) fn count(&self, k_default: usize, k_max: usize) -> Result<usize, ApiError> {
        let k = self.k.unwrap_or(k_default);
        if k == 0 || k > k_max {
            return Err(invalid("k", &k.to_string(), format!("from 1 to {k_max}")));
        }
        if k.saturating_add(self.offset) > k_max {
            return Err(invalid(
                "offset",
                &self.offset.to_string(),
                format!("such that k + offset is at most {k_max}"),
            ));
        }
        Ok(k)
    }
}

fn number(name: &'static str, value: &str) -> Result<usize, ApiError> {
    value.parse().map_err(|_| invalid(name, value, "a whole number".to_owned()))
}

fn similarity(value: &str) -> Result<f32, ApiError> {
    let parsed = value.parse::<f32>().ok().filter(|similarity| (-1.0..=1.0).contains(similarity));
    parsed.ok_or_else(|| invalid("threshold", value, "a cosine similarity from -1 to 1".to_owned()))
}

fn boolean(name: &'static str, value: &str) -> Result<bool, ApiError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(name, value, "true or false".to_owned())),
    }
}

fn invalid(name: &'static str, value: &str, allowed: String) -> ApiError {
    ApiError::InvalidParameter { name, value: shortened(value), reason: format!("it must be {allowed}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_string_sets_every_parameter() {
        let mut params = SearchParams::default();
        params
            .set_query("k=5&offset=10&category=Living+room%2FSofas&threshold=0.25&exact=true&group=false")
            .expect("all known");
        let expected = SearchParams {
            k: Some(5),
            offset: 10,
            category: Some("Living room/Sofas".to_owned()),
            threshold: Some(0.25),
            exact: true,
            per_image: true,
        };
        assert_eq!(params, expected);
    }

    #[test]
    fn empty_values_are_none_and_wrong_ones_are_named() {
        let mut params = SearchParams::default();
        params.set_query("category=&k=").expect("a form with nothing filled in");
        assert_eq!(params, SearchParams::default());
        for (query, named) in [
            ("k=many", "k"),
            ("threshold=1.5", "threshold"),
            ("threshold=NaN", "threshold"),
            ("exact=perhaps", "exact"),
            ("offset=-1", "offset"),
        ] {
            match SearchParams::default().set_query(query) {
                Err(ApiError::InvalidParameter { name, .. }) => assert_eq!(name, named, "{query}"),
                other => panic!("{query} gave {other:?}"),
            }
        }
        let error = SearchParams::default().set_query("catgory=Sofas").expect_err("misspelt");
        assert!(
            error.to_string().contains("\"catgory\"") && error.to_string().contains("category"),
            "{error}"
        );
    }

    #[test]
    fn a_window_of_the_ranking_stays_within_the_limit() {
        let count = |k, offset| SearchParams { k, offset, ..SearchParams::default() }.count(12, 100);
        assert_eq!(count(None, 0).expect("default"), 12);
        assert_eq!(count(Some(90), 10).expect("just fits"), 90);
        assert!(count(Some(0), 0).is_err());
        assert!(count(Some(101), 0).is_err());
        assert!(count(Some(91), 10).is_err());
        assert!(count(Some(1), usize::MAX).is_err());
    }
}
