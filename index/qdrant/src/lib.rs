//! A catalogue's vectors on [Qdrant](https://qdrant.tech), an engine of its own, on one machine or many.
//!
//! [`QdrantIndex`] is the same [`VectorIndex`](dfml_index::VectorIndex) as the embedded one. Nothing is kept here but
//! connections, so that any number of processes can use one collection, and each sees what the others write.
//!
//! Each model has a collection of its own (a generation), named after the collection that was asked for and the model's
//! fingerprint; vectors of two models never meet. The plain name is an alias of the generation in use, which
//! [`QdrantIndex::activate`] changes at once.
//!
//! A point's id is made of the item's, so that a write can be sent again without harm. Its payload:
//!
//! | key | what |
//! |---|---|
//! | `id`, `product` | the item's ids |
//! | `metadata` | the item's metadata as JSON text: what is given back |
//! | `fields` | what filters see of the metadata, under the same names |
//! | `product_hash` | a number made of the product's id: the order in which products are listed |
//! | `at` | when the item was written, in microseconds since 1970, each write later than the one before |
//! | `revision` | names the last write, so that a patch never undoes another |

mod clock;
mod collection;
mod filter;
mod ids;
mod index;
mod lease;
mod options;
mod patch;
mod point;
mod products;
mod read;
mod search;
mod wire;
mod write;

pub use index::QdrantIndex;
pub use options::{QdrantOptions, Quantisation, Secret};
