//! How many of a list's pictures find their own product first.

use std::{ops::ControlFlow, path::PathBuf};

use dfml_index::{IndexError, SearchRequest, sop::SopList};

use crate::{
    bulk::{BulkOptions, embed_files},
    http::{Backend, jobs::Failure},
};

/// Recall@1 by product of the pictures of a list whose products are in the catalogue.
pub(super) fn at_1(backend: &Backend, list: &SopList) -> Result<f64, Failure> {
    let paths: Vec<PathBuf> = list.entries.iter().map(|entry| list.root.join(&entry.path)).collect();
    let (mut asked, mut found, mut failed) = (0usize, 0usize, None::<IndexError>);
    embed_files(
        &backend.engine,
        &paths,
        &BulkOptions { workers: Some(1), ..BulkOptions::default() },
        |position, result| {
            let Ok(embedding) = result else { return ControlFlow::Continue(()) };
            let request =
                SearchRequest { k: 1, group_by_product: true, ..SearchRequest::new(embedding.vector) };
            match backend.index.search(&request) {
                Ok(hits) => {
                    asked += 1;
                    let product = list.entries[position].class_id.to_string();
                    found += usize::from(hits.first().is_some_and(|hit| hit.product_id == product));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    match failed {
        Some(error) => Err(error.into()),
        None if asked == 0 => Err("none of the queries can be read".into()),
        None => Ok(found as f64 / asked as f64),
    }
}
