//! In-Shop Clothes Retrieval: one list that says of each image whether it trains, asks or is searched.

use std::path::Path;

use super::{Splits, TestSet, find, inside, line_error, lines};
use crate::data::Dataset;
use crate::data::dataset::number_classes;
use crate::error::TrainError;

const HEADER: [&str; 3] = ["image_name", "item_id", "evaluation_status"];

pub(super) fn read(data: &Path) -> Result<Splits, TrainError> {
    let list = find(
        data,
        &["list_eval_partition.txt", "Eval/list_eval_partition.txt", "Anno/list_eval_partition.txt"],
    )?;
    // Paths begin with `img/`.
    let images = find(data, &["img", "Img/img"])?;
    let root = images.parent().unwrap_or(data);
    let mut rows = lines(&list)?.into_iter();
    let (line, count) = rows.next().ok_or_else(|| line_error(&list, 1, "the list is empty"))?;
    let count: usize =
        count.parse().map_err(|_| line_error(&list, line, "the first line must be the number of images"))?;
    let header = rows.next().map(|(_, text)| text).unwrap_or_default();
    if header.split_whitespace().ne(HEADER) {
        return Err(line_error(&list, 2, format!("the second line must be `{}`", HEADER.join(" "))));
    }
    let (mut train, mut query, mut gallery) = (Vec::new(), Vec::new(), Vec::new());
    for (line, text) in rows {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [path, item, status] = fields[..] else {
            return Err(line_error(&list, line, format!("{} fields where there should be 3", fields.len())));
        };
        let part = match status {
            "train" => &mut train,
            "query" => &mut query,
            "gallery" => &mut gallery,
            other => {
                return Err(line_error(&list, line, format!("{other:?} is none of train, query, gallery")));
            }
        };
        let path = inside(root, path).map_err(|reason| line_error(&list, line, reason))?;
        part.push((path, item.to_owned()));
    }
    let found = train.len() + query.len() + gallery.len();
    if found != count {
        return Err(line_error(&list, 1, format!("{count} images are announced, {found} are listed")));
    }
    let keys = query.iter().chain(&gallery).map(|(_, item)| item.clone());
    let numbers = number_classes(keys);
    Ok(Splits {
        train: Dataset::new(&list, train),
        test: TestSet {
            gallery: Dataset::numbered(&list, gallery, &numbers),
            queries: Some(Dataset::numbered(&list, query, &numbers)),
            has_training_classes: false,
        },
    })
}
