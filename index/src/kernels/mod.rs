//! Inner loops, chosen at run time by what the processor can do.

mod dot;
mod int8;
mod prefetch;

pub(crate) use dot::dot;
pub(crate) use int8::{FOUR, LINE, dot_four, dot_pair, dot_rows, kernel_name};
pub(crate) use prefetch::prefetch;
