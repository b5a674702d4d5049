//! Finding and loading the ONNX Runtime shared library, once per process.

use std::{
    ffi::CStr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::{environment::Environment, logging::LogLevel};

use super::{EngineError, Provider};

/// Folders in the cache where `cargo xtask setup` puts ONNX Runtime: for every machine, and with `--provider`.
const PLAIN: &str = "onnxruntime-1.31.1";
const CUDA: &str = "onnxruntime-cuda-1.31.1";
const OPENVINO: &str = "onnxruntime-openvino-1.24.1";

/// The first version that has `session.intra_op.spin_duration_us`.
const LIMITED_SPINNING: (u32, u32) = (1, 26);

/// The library of this process. ONNX Runtime allows one environment per process, for good.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// A loaded ONNX Runtime library and its process-wide environment. Cheap to clone.
#[derive(Clone)]
pub struct Library {
    path: PathBuf,
    version: String,
    environment: Environment,
}

impl Library {
    /// Loads the library, or returns the one this process already uses.
    ///
    /// `explicit` is the path given on the command line or in the settings; without it see [`resolve`], which looks for a
    /// library that has `provider`.
    ///
    /// # Errors
    /// [`EngineError::LibraryMissing`], [`EngineError::LibraryUnusable`], or [`EngineError::LibraryConflict`] when the
    /// process already runs on a different library.
    pub fn load(explicit: Option<&Path>, provider: Provider) -> Result<Self, EngineError> {
        let path = resolve(explicit, provider)?;
        let mut loaded = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(library) = loaded.as_ref() {
            if library.path != path {
                return Err(EngineError::LibraryConflict { loaded: library.path.clone(), asked: path });
            }
            return Ok(library.clone());
        }
        let library = load_first(path)?;
        *loaded = Some(library.clone());
        Ok(library)
    }

    /// The library file in use.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library's own version, e.g. `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a session can be told for how long its threads stay awake between operators; older libraries ignore the setting.
    pub(super) fn limits_spinning(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0u32));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= LIMITED_SPINNING
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Where the library is taken from: `explicit`, else `ORT_DYLIB_PATH`, else the cache directory, else beside the
/// executable. In the cache, a library with `provider` comes before the plain one.
///
/// # Errors
/// [`EngineError::LibraryMissing`] names every path that was tried. A path that was asked for by name is not silently
/// replaced by another one.
pub fn resolve(explicit: Option<&Path>, provider: Provider) -> Result<PathBuf, EngineError> {
    let asked = explicit
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()).map(PathBuf::from));
    let candidates = match asked {
        Some(path) => vec![path],
        None => default_places(provider),
    };
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(fs_err::canonicalize(path).unwrap_or_else(|_| path.clone())),
        None => Err(EngineError::LibraryMissing { looked_at: candidates }),
    }
}

fn default_places(provider: Provider) -> Vec<PathBuf> {
    let file = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folders: &[&str] = match provider {
        Provider::Cpu => &[PLAIN],
        Provider::Auto | Provider::Cuda | Provider::Tensorrt => &[CUDA, PLAIN],
        Provider::Openvino => &[OPENVINO, PLAIN],
    };
    let cache = dfml_models::cache_dir();
    let mut places: Vec<_> = folders.iter().map(|folder| cache.join(folder).join(&file)).collect();
    if let Ok(executable) = std::env::current_exe()
        && let Some(folder) = executable.parent()
    {
        places.push(folder.join(&file));
    }
    places
}

fn load_first(path: PathBuf) -> Result<Library, EngineError> {
    let unusable = |reason: String| EngineError::LibraryUnusable { path: path.clone(), reason };
    let version = version_of(&path).map_err(unusable)?;
    let environment = ort::init_from(&path)
        .map_err(|error| unusable(error.to_string()))?
        .with_name("dfml")
        .with_telemetry(false)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(Library { path, version, environment })
}

/// Asks the library for its version; ort loads the library but does not offer its version string.
fn version_of(path: &Path) -> Result<String, String> {
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: loading runs the library's initialisers. The operator named this file as ONNX Runtime, and ort loads the
    // same file straight afterwards, so nothing is run here that would not run anyway.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    // SAFETY: every ONNX Runtime library exports OrtGetApiBase with this signature (onnxruntime_c_api.h).
    let get_base: libloading::Symbol<'_, GetApiBase> = unsafe { library.get(b"OrtGetApiBase\0") }
        .map_err(|_| "it does not export OrtGetApiBase".to_owned())?;
    // SAFETY: the function takes no arguments and returns a pointer to a static, or null.
    let base = unsafe { get_base() };
    if base.is_null() {
        return Err("OrtGetApiBase returned null".to_owned());
    }
    // SAFETY: base is not null and points to the library's static OrtApiBase; GetVersionString returns a static,
    // NUL-terminated string, copied here before `library` is dropped.
    let version = unsafe { CStr::from_ptr(((*base).GetVersionString)()) };
    Ok(version.to_string_lossy().into_owned())
}
