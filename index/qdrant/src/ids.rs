//! Ids of points and of products' places, made of texts.

use qdrant_client::qdrant::{PointId, point_id::PointIdOptions};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The id of an item's point: a UUID (version 8) out of the SHA-256 of the item's id. The same item always is the same
/// point, and two items are two points as surely as SHA-256 cut to 122 bits tells them apart.
pub(crate) fn point(item_id: &str) -> Uuid {
    let digest = Sha256::digest(item_id.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

pub(crate) fn point_id(item_id: &str) -> PointId {
    wire(point(item_id))
}

pub(crate) fn wire(id: Uuid) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

/// A product's place in the list of products: 0 or greater. Two products may share one.
pub(crate) fn product_hash(product_id: &str) -> i64 {
    let digest = Sha256::digest(product_id.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(bytes) & i64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_they_always_were() {
        // Stored in every collection: from `printf %s chair | sha256sum`, with version and variant set.
        let digest = Sha256::digest(b"chair");
        let id = point("chair");
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(id.as_bytes()[..6], digest[..6]);
        assert_ne!(point("chair"), point("chair "));
        assert!(product_hash("chair") >= 0);
    }
}
