//! Who may do what: API keys with scopes, hashed at rest, and how often each may ask.
//!
//! A key is 32 random bytes, so a plain SHA-256 of it cannot be guessed back, unlike that of a password. The file and
//! the environment hold only the digests; see [`KeyRing`] for both formats and [`KeyStore`] for rotation.

mod keys;
mod rate;
mod store;

pub use keys::{KeyError, KeyName, KeyRing, NewKey, Scope};
pub use rate::{Rate, RateLimits};
pub use store::{KeySource, KeyStore};
