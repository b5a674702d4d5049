//! Inner loops, chosen at run time by what the processor can do.

mod dot;
mod int8;

pub(crate) use dot::dot;
pub(crate) use int8::{LINE, dot_rows, kernel_name};
