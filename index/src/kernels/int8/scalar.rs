//! The definition of the other kernels, and what runs where there is none.

use super::Kernel;

pub(super) const KERNEL: Kernel =
    Kernel { name: "scalar", rows, four: |query, rows| rows.map(|row| one(query, row)), pair };

/// A stored byte as the code that it stands for.
fn code(byte: u8) -> i32 {
    i32::from(byte) - 128
}

fn one(query: &[i8], row: &[u8]) -> i32 {
    query.iter().zip(row).map(|(&q, &byte)| i32::from(q) * code(byte)).sum()
}

fn rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    for (sum, row) in out.iter_mut().zip(rows.chunks_exact(query.len())) {
        *sum = one(query, row);
    }
}

fn pair(a: &[u8], b: &[u8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| code(a) * code(b)).sum()
}
