//! products.jsonl: what is known about each product, one JSON object a line.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The keys that search results carry along.
const METADATA_KEYS: [&str; 5] = ["name", "category", "tags", "creator", "license"];

/// A line of products.jsonl. Keys that serve has no use for (sizes, image lists) are left alone.
#[derive(Clone, Debug, Deserialize)]
pub struct Product {
    /// The product's id: the class id of the list files, as a string.
    pub id: String,
    /// Everything else on the line.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The products of a file, by id.
#[derive(Clone, Debug, Default)]
pub struct Products(HashMap<String, Map<String, Value>>);

/// A products.jsonl that cannot be read; names the file and the line.
#[derive(Debug, thiserror::Error)]
pub enum ProductsError {
    /// The file cannot be read.
    #[error("products file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not a product.
    #[error("{}:{line}: not a product: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based line number.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// Two lines describe the same product.
    #[error("{}:{line}: product {id:?} is described twice", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// 1-based number of the second line.
        line: usize,
        /// The product's id.
        id: String,
    },
}

impl Products {
    /// Reads a file of one JSON object a line; blank lines are allowed.
    ///
    /// # Errors
    /// [`ProductsError`] for an unreadable file, a line that is no product, or an id that comes twice.
    pub fn read(path: &Path) -> Result<Self, ProductsError> {
        let read = |source| ProductsError::Read { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        let mut products = HashMap::new();
        for (index, text) in BufReader::new(file).lines().enumerate() {
            let (line, text) = (index + 1, text.map_err(read)?);
            if text.trim().is_empty() {
                continue;
            }
            let Product { id, mut rest } = serde_json::from_str(&text)
                .map_err(|source| ProductsError::Line { path: path.to_path_buf(), line, source })?;
            rest.retain(|key, _| METADATA_KEYS.contains(&key.as_str()));
            if products.insert(id.clone(), rest).is_some() {
                return Err(ProductsError::Duplicate { path: path.to_path_buf(), line, id });
            }
        }
        Ok(Self(products))
    }

    /// A product's metadata; empty for an unknown product.
    pub fn metadata(&self, id: &str) -> Map<String, Value> {
        self.0.get(id).cloned().unwrap_or_default()
    }

    /// How many products there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Products, ProductsError> {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("products.jsonl");
        std::fs::write(&path, text).expect("write");
        Products::read(&path)
    }

    #[test]
    fn keeps_what_search_results_show() {
        let products = read("{\"id\":\"7\",\"name\":\"Oak chair\",\"width_cm\":40}\n\n").expect("valid");
        assert_eq!(products.len(), 1);
        assert_eq!(products.metadata("7"), Map::from_iter([("name".to_owned(), "Oak chair".into())]));
        assert!(products.metadata("8").is_empty());
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let error = read("{\"id\":\"7\"}\n{\"name\":\"no id\"}\n").expect_err("no id").to_string();
        assert!(error.contains("products.jsonl:2") && error.contains("`id`"), "{error}");
        let error = read("{\"id\":\"7\"}\n{\"id\":\"7\"}\n").expect_err("twice").to_string();
        assert!(error.contains("products.jsonl:2") && error.contains("\"7\""), "{error}");
        let error = Products::read(Path::new("/nowhere/products.jsonl")).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/products.jsonl"), "{error}");
    }
}
