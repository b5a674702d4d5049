//! Puts libtorch's library folder into the run path of this crate's binaries and tests, so that they start
//! without LD_LIBRARY_PATH, and links its CUDA library where there is one.

use std::path::Path;

fn main() {
    if let Ok(dir) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath={dir}");
        // Nothing calls it by name: it registers itself when it is loaded, so the linker must not leave it out.
        if Path::new(&dir).join("libtorch_cuda.so").exists() {
            println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}
