//! A checksum of each row, so that what is read is known to be what was written, even out of a damaged file.

use redb::{Table, TableDefinition};

/// Checksum of each row.
pub(super) const SUMS: TableDefinition<'_, u64, u32> = TableDefinition::new("sums");

/// The table, open for writing.
pub(super) type SumsTable<'t> = Table<'t, u64, u32>;

/// Checksum (CRC-32) of everything that a row says: its number, ids, metadata (JSON) and vector (little-endian f32).
pub(super) fn row_sum(row: u64, id: &str, product_id: &str, metadata: &[u8], vector: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&row.to_le_bytes());
    for part in [id.as_bytes(), product_id.as_bytes(), metadata, vector] {
        // With its length, so that bytes cannot move from one part to the next.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}
