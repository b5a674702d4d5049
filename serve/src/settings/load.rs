//! Reading the layers of settings.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};

use super::Settings;

/// Variables with our prefix that are not settings.
const NOT_SETTINGS: [&str; 3] = ["DFML_CACHE_DIR", "DFML_GOLDEN_DIR", "DFML_LOG_FORMAT"];
const PREFIX: &str = "DFML_";

/// A setting that cannot be read. The message names the layer (file or variable) and the key.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file is not there.
    #[error("settings file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// A key is unknown, or a value has the wrong type or range.
    #[error("settings: {0}")]
    Invalid(#[from] Box<figment::Error>),
    /// An environment variable with our prefix that is no setting.
    #[error(
        "environment variable {name} is not a setting; settings are named DFML_SECTION__KEY, e.g. DFML_SERVER__BIND"
    )]
    Variable {
        /// The variable.
        name: String,
    },
}

impl Settings {
    /// Reads the layers: built in, `file` if given, the environment.
    ///
    /// # Errors
    /// [`SettingsError`] for a missing file, an unknown key, or a value of the wrong type.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let mut layers = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SettingsError::File { path: path.to_path_buf(), source })?;
            // Read here rather than by figment, which takes a missing file for an empty one.
            layers = layers.merge(NamedToml { path, text: &text });
        }
        if let Some(name) =
            unknown_variable(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
        {
            return Err(SettingsError::Variable { name });
        }
        let environment = Env::prefixed(PREFIX).filter(|key| key.as_str().contains("__")).split("__");
        layers.merge(environment).extract().map_err(|error| Box::new(error).into())
    }
}

/// The first variable with our prefix that is neither a setting's name nor one of [`NOT_SETTINGS`].
fn unknown_variable(names: impl Iterator<Item = String>) -> Option<String> {
    names.into_iter().find(|name| {
        name.strip_prefix(PREFIX)
            .is_some_and(|key| !key.contains("__") && !NOT_SETTINGS.contains(&name.as_str()))
    })
}

/// A TOML file whose errors name the file.
struct NamedToml<'a> {
    path: &'a Path,
    text: &'a str,
}

impl figment::Provider for NamedToml<'_> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::from("settings file", self.path)
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        figment::Provider::data(&Toml::string(self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn load(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("serve.toml");
        std::fs::write(&path, text).expect("write");
        Settings::load(Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_lists_the_built_in_values() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/serve.toml");
        assert_eq!(Settings::load(Some(&path)).expect("configs/serve.toml"), Settings::default());
    }

    #[test]
    fn a_file_overrides_only_what_it_names() {
        let settings =
            load("[engine]\nprovider = \"cpu\"\nthreads = 3\n[server]\nk_max = 50\n").expect("valid");
        assert_eq!(settings.engine.provider, Provider::Cpu);
        assert_eq!(settings.engine.threads, Some(3));
        assert_eq!(settings.server, ServerSettings { k_max: 50, ..ServerSettings::default() });
        assert_eq!(settings.batch, BatchSettings::default());
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_errors_that_name_the_file_and_the_key() {
        for (text, named) in [
            ("[engine]\nprovidr = \"cpu\"\n", "providr"),
            ("[sever]\nbind = \"127.0.0.1:1\"\n", "sever"),
            ("[server]\nbind = \"here\"\n", "server.bind"),
            ("[batch]\nmax_batch = -1\n", "batch.max_batch"),
            ("[engine]\nprovider = \"gpu\"\n", "gpu"),
            ("[index]\nlink = 3\n", "link"),
            ("[index]\nbackend = \"sqlite\"\n", "sqlite"),
            ("[index.qdrant]\nreplicas = 3\n", "replicas"),
            ("[traces]\nendpont = \"http://127.0.0.1:4317\"\n", "endpont"),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains(named) && error.contains("serve.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = Settings::load(Some(Path::new("/nowhere/serve.toml"))).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/serve.toml"), "{error}");
    }

    #[test]
    fn variables_with_our_prefix_are_settings_or_known() {
        let find = |names: &[&str]| unknown_variable(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(find(&["PATH", "DFML_CACHE_DIR", "DFML_SERVER__BIND"]), None);
        assert_eq!(find(&["DFML_SERVER_BIND"]).as_deref(), Some("DFML_SERVER_BIND"));
    }
}
