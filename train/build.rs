//! Puts libtorch's library folder into the run path of this crate's binaries and tests, so that they start
//! without LD_LIBRARY_PATH.

fn main() {
    if let Ok(dir) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath={dir}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
