//! Inner loops, chosen at run time by what the processor can do.

mod dot;

pub(crate) use dot::dot;
