//! NVIDIA GPUs: loading CUDA's libraries from beside ONNX Runtime, and asking the device for its memory.

use std::{ffi::OsStr, path::Path};

use libloading::os::unix::{Library as SystemLibrary, RTLD_GLOBAL, RTLD_NOW};

/// CUDA's libraries in the order in which they need each other. The provider names them without saying where they are.
const LIBRARIES: [&str; 9] = [
    "libcudart.so",
    "libnvJitLink.so",
    "libnvrtc.so",
    "libcublasLt.so",
    "libcublas.so",
    "libcurand.so",
    "libcufft.so",
    "libcudnn_graph.so",
    "libcudnn.so",
];

/// Loads CUDA's libraries that lie in the folder of the ONNX Runtime library, for good, so that the provider finds them.
/// Where there are none, the system's are used.
pub(super) fn preload(onnxruntime: &Path) {
    let Some(folder) = onnxruntime.parent() else { return };
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    let files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for library in LIBRARIES {
        let named = |file: &&std::path::PathBuf| {
            file.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(library))
        };
        let Some(file) = files.iter().find(named) else { continue };
        // SAFETY: these are NVIDIA's libraries, which the provider would load itself; their initialisers have no
        // preconditions. They are never unloaded.
        match unsafe { SystemLibrary::open(Some(file), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => std::mem::forget(library),
            Err(error) => tracing::debug!(%error, "a CUDA library cannot be loaded"),
        }
    }
}

/// The memory of the current GPU.
pub(super) struct DeviceMemory(SystemLibrary);

impl DeviceMemory {
    /// Opens CUDA's runtime: the one that is loaded already, or the system's.
    pub(super) fn open() -> Result<Self, String> {
        let mut failure = String::new();
        for name in ["libcudart.so.13", "libcudart.so.12", "libcudart.so"] {
            // SAFETY: CUDA's runtime has no preconditions on being loaded.
            match unsafe { SystemLibrary::new(name) } {
                Ok(library) => return Ok(Self(library)),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    /// Free bytes, on the whole device.
    pub(super) fn free(&self) -> Result<u64, String> {
        type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
        // SAFETY: every version of CUDA's runtime exports cudaMemGetInfo with this signature (cuda_runtime_api.h).
        let get_info =
            unsafe { self.0.get::<MemGetInfo>(b"cudaMemGetInfo\0") }.map_err(|error| error.to_string())?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to live integers of the type that is written.
        match unsafe { get_info(&raw mut free, &raw mut total) } {
            0 => Ok(free as u64),
            code => Err(format!("cudaMemGetInfo gave error {code}")),
        }
    }
}
