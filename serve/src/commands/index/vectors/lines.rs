//! Items as lines of JSON: exports, and lists whose vectors are in another file.

use std::{
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context as _, bail};
use dfml_index::Item;
use serde::{Deserialize, Serialize};

use super::{Entries, Entry, Vector};

/// Format of exports.
pub(in super::super) const EXPORT: u32 = 1;

/// The first line of an export: whose vectors they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Header {
    /// Version of the export's format.
    pub(in super::super) dfml_export: u32,
    pub(in super::super) dim: usize,
    pub(in super::super) model_fingerprint: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Header(Header),
    Item(LineItem),
}

/// An item whose vector may be elsewhere.
#[derive(Deserialize)]
struct LineItem {
    id: String,
    product_id: String,
    #[serde(default)]
    vector: Vec<f32>,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// Reads items; their vectors are those given, in order, or their own.
pub(super) fn entries(path: &Path, vectors: Option<Vec<Vector>>) -> anyhow::Result<Entries> {
    let mut entries = Entries::default();
    let (given, mut vectors) = (vectors.as_ref().map(Vec::len), vectors.map(|vectors| vectors.into_iter()));
    for (index, text) in BufReader::new(fs_err::File::open(path)?).lines().enumerate() {
        let text = text.with_context(|| path.display().to_string())?;
        if text.trim().is_empty() {
            continue;
        }
        let place = format!("{}:{}", path.display(), index + 1);
        match serde_json::from_str(&text).with_context(|| format!("{place}: not an item"))? {
            Line::Header(found) if entries.header.is_none() && entries.list.is_empty() => {
                if found.dfml_export != EXPORT {
                    bail!("{place}: export format {}; this version reads {EXPORT}", found.dfml_export);
                }
                entries.header = Some(found);
            }
            Line::Header(_) => bail!("{place}: the header must be the first line"),
            Line::Item(LineItem { id, product_id, vector, metadata }) => {
                let (vector, missing) = match &mut vectors {
                    None => (vector, None),
                    Some(rows) => match rows.next() {
                        Some(Ok(vector)) => (vector, None),
                        Some(Err(reason)) => (Vec::new(), Some(reason)),
                        None => bail!("{place}: there is no vector for it; the file of vectors is shorter"),
                    },
                };
                entries.list.push(Entry { item: Item { id, product_id, vector, metadata }, missing, place });
            }
        }
    }
    if let Some(given) = given.filter(|&given| given != entries.list.len()) {
        bail!("{} items, but {given} vectors", entries.list.len());
    }
    Ok(entries)
}
