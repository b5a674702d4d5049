//! What may enter the index.

use crate::{IndexError, Item, SearchRequest};

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

/// The request's vector, scaled to unit length.
pub(super) fn unit_query(request: &SearchRequest, dim: usize) -> Result<Vec<f32>, IndexError> {
    let invalid = |reason| IndexError::InvalidRequest { reason };
    if request.threshold.is_some_and(f32::is_nan) {
        return Err(invalid("its threshold is not a number".into()));
    }
    let length = length(&request.vector, dim).map_err(invalid)?;
    if length < f32::MIN_POSITIVE {
        return Err(invalid("its vector is zero".into()));
    }
    // A vector that has unit length up to rounding stays as it is.
    let scale = if (length - 1.0).abs() < 1e-6 { 1.0 } else { 1.0 / length };
    Ok(request.vector.iter().map(|value| value * scale).collect())
}

/// Length of a vector, which must have `dim` finite values.
fn length(vector: &[f32], dim: usize) -> Result<f32, String> {
    if vector.len() != dim {
        return Err(format!("its vector has {} values; this index holds vectors of {dim}", vector.len()));
    }
    if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
        return Err(format!("value {position} of its vector is {}", vector[position]));
    }
    // In doubles nothing overflows, and small values count.
    Ok(vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32)
}
