//! API keys: making, parsing, checking.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What every key begins with, so that scanners for leaked secrets can find it.
const PREFIX: &str = "dfml_";
const SECRET_BYTES: usize = 32;
const DIGEST_PREFIX: &str = "sha256:";

/// What a key may be used for; each scope includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Searching, embedding, reading the catalogue.
    Read,
    /// Also changing the catalogue.
    Write,
    /// Also exchanging the model.
    Admin,
}

impl Scope {
    /// Its name in files, variables and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            other => Err(format!("there is no scope {other:?}; known are read, write and admin")),
        }
    }
}

/// The name of a key: told in logs and used for its rate limit, never secret.
pub type KeyName = Arc<str>;

/// One key as it is stored.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    name: KeyName,
    scope: Scope,
    digest: [u8; 32],
}

/// A key that has just been made. Its secret exists nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What the client sends.
    pub secret: String,
    /// What the key file or variable holds: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

impl NewKey {
    /// Draws a key from the operating system's randomness.
    pub fn generate() -> Self {
        let mut bytes = [0u8; SECRET_BYTES];
        rand::rng().fill(&mut bytes);
        let secret = format!("{PREFIX}{}", hex::encode(bytes));
        let digest = format!("{DIGEST_PREFIX}{}", hex::encode(digest(&secret)));
        Self { secret, digest }
    }
}

/// The keys that are valid now.
///
/// As TOML, in the key file:
///
/// ```toml
/// [[key]]
/// name = "shop-app"
/// scope = "read"          # read, write or admin; each includes the ones before it
/// digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
/// ```
///
/// In the variable `DFML_ACCESS__KEYS`: `name:scope:sha256:digest`, several separated by commas.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// Keys that cannot be read. Never tells a secret or a digest.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key file is not as it should be.
    #[error("key file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The variable is not as it should be.
    #[error("DFML_ACCESS__KEYS, key {number}: {reason}")]
    Variable {
        /// 1-based position of the key.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    scope: Scope,
    digest: String,
}

impl KeyRing {
    /// Reads the contents of a key file.
    ///
    /// # Errors
    /// A sentence that names the key concerned.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let file: KeyFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut ring = Self::default();
        for KeyEntry { name, scope, digest } in file.key {
            ring.push(&name, scope, &digest).map_err(|reason| format!("key {name:?}: {reason}"))?;
        }
        Ok(ring)
    }

    /// Reads the value of the variable.
    ///
    /// # Errors
    /// [`KeyError::Variable`] with the position of the key that is wrong.
    pub fn from_variable(text: &str) -> Result<Self, KeyError> {
        let mut ring = Self::default();
        for (index, entry) in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).enumerate() {
            let wrong = |reason: String| KeyError::Variable { number: index + 1, reason };
            let mut parts = entry.splitn(3, ':');
            let (Some(name), Some(scope), Some(digest)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(wrong("write it as name:scope:sha256:digest".to_owned()));
            };
            ring.push(name, scope.parse().map_err(wrong)?, digest).map_err(wrong)?;
        }
        Ok(ring)
    }

    /// The keys of both.
    ///
    /// # Errors
    /// If both have a key of one name.
    pub fn joined(mut self, other: Self) -> Result<Self, String> {
        for key in other.keys {
            if self.keys.iter().any(|known| known.name == key.name) {
                return Err(format!("key {:?} is both in the file and in the environment", key.name));
            }
            self.keys.push(key);
        }
        Ok(self)
    }

    fn push(&mut self, name: &str, scope: Scope, digest: &str) -> Result<(), String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err("a name is 1 to 64 letters, digits, dots, dashes or underscores".to_owned());
        }
        if self.keys.iter().any(|key| &*key.name == name) {
            return Err("another key has the same name".to_owned());
        }
        let mut bytes = [0u8; 32];
        digest
            .strip_prefix(DIGEST_PREFIX)
            .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
            .ok_or("its digest is not `sha256:` and 64 hexadecimal digits; `dfml key` prints one")?;
        self.keys.push(Key { name: name.into(), scope, digest: bytes });
        Ok(())
    }

    /// The key with this secret: its name and scope. Takes the same time whether and where there is one.
    pub fn find(&self, secret: &str) -> Option<(KeyName, Scope)> {
        let sought = digest(secret);
        let mut found = u64::MAX;
        for (index, key) in (0u64..).zip(&self.keys) {
            let same: Choice = key.digest.ct_eq(&sought);
            found = u64::conditional_select(&found, &index, same);
        }
        let key = self.keys.get(usize::try_from(found).ok()?)?;
        Some((Arc::clone(&key.name), key.scope))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none, which lets everybody in.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for KeyRing {
    /// Names and scopes only.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.keys.iter().map(|key| (&key.name, key.scope))).finish()
    }
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(name: &str, scope: &str, digest: &str) -> String {
        format!("[[key]]\nname = \"{name}\"\nscope = \"{scope}\"\ndigest = \"{digest}\"\n")
    }

    #[test]
    fn a_key_is_found_by_its_secret_and_by_nothing_else() {
        let (app, loader) = (NewKey::generate(), NewKey::generate());
        assert_ne!(app.secret, loader.secret);
        let text = toml("app", "read", &app.digest) + &toml("loader", "write", &loader.digest);
        let ring = KeyRing::from_toml(&text).expect("well-formed");
        assert_eq!(ring.find(&app.secret), Some(("app".into(), Scope::Read)));
        assert_eq!(ring.find(&loader.secret), Some(("loader".into(), Scope::Write)));
        for wrong in
            ["", "dfml_", &app.digest, &app.secret[..app.secret.len() - 1], &format!("{} ", app.secret)]
        {
            assert_eq!(ring.find(wrong), None, "{wrong:?}");
        }
        assert_eq!(KeyRing::default().find(""), None);
    }

    #[test]
    fn the_digest_is_plain_sha256() {
        // SHA-256 of "test", as sha256sum prints it.
        let known = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let ring = KeyRing::from_variable(&format!("t:admin:{known}")).expect("well-formed");
        assert_eq!(ring.find("test"), Some(("t".into(), Scope::Admin)));
    }

    #[test]
    fn wrong_entries_are_named_and_secrets_are_not_told() {
        let digest = NewKey::generate().digest;
        for (text, named) in [
            (toml("a", "root", &digest), "root"),
            (toml("a", "read", "test"), "\"a\""),
            (toml("a b", "read", &digest), "\"a b\""),
            (toml("a", "read", &digest) + &toml("a", "read", &digest), "same name"),
            ("[[kye]]\n".to_owned(), "kye"),
        ] {
            let error = KeyRing::from_toml(&text).expect_err(&text);
            assert!(error.contains(named) && !error.contains(&digest), "{error}");
        }
        let error = KeyRing::from_variable(&format!("a:read:{digest}, b:read")).expect_err("no digest");
        assert!(error.to_string().contains("key 2"), "{error}");
        let ring = KeyRing::from_variable(&format!("a:read:{digest}")).expect("well-formed");
        assert_eq!(format!("{ring:?}"), r#"{"a": Read}"#);
    }

    #[test]
    fn scopes_include_the_ones_before() {
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Admin);
    }
}
