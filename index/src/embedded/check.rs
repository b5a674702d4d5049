//! What may enter the index.

use crate::{IndexError, Item, request::length};

/// How far the length of a stored vector may be from 1.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// Refuses the first item that cannot be stored or compared.
pub(super) fn check_items(items: &[Item], dim: usize) -> Result<(), IndexError> {
    for item in items {
        check_item(item, dim).map_err(|reason| IndexError::InvalidItem { id: item.id.clone(), reason })?;
    }
    Ok(())
}

fn check_item(item: &Item, dim: usize) -> Result<(), String> {
    for (name, id) in [("id", &item.id), ("product id", &item.product_id)] {
        if id.is_empty() {
            return Err(format!("its {name} is empty"));
        }
        if id.len() > Item::ID_BYTES_MAX {
            return Err(format!("its {name} has {} bytes; {} are allowed", id.len(), Item::ID_BYTES_MAX));
        }
    }
    let length = length(&item.vector, dim)?;
    if (length - 1.0).abs() > LENGTH_TOLERANCE {
        return Err(format!("its vector has length {length}, not 1"));
    }
    Ok(())
}
