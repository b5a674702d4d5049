//! Networks cut into sub-blocks, with a full and a routed stream.
//!
//! [`build()`] makes any backbone from weights of either form; everything else goes through [`Network`].

mod build;
mod conv;
mod embedding;
mod fresh;
mod gates;
mod network;
pub mod params;
mod router;
pub mod vit;

pub use build::{Form, NetworkOptions, build};
pub use embedding::EmbeddingLayer;
pub use fresh::fresh_weights;
pub use network::{Effort, Network, StreamOutput, TrainOutput, l2_normalize};
pub use params::{Group, Params};
