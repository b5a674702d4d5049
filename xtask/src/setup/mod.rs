//! Set-up: fetches what cargo cannot, checks it, and unpacks it into the cache folder.
//!
//! Every archive is pinned by version and SHA-256; what pip installs as a whole is pinned by version, a Debian program is the
//! one that the system's sources have. A component is unpacked beside its place and renamed, with a stamp that says what it
//! was made of; so an interrupted set-up leaves nothing half done, and the next one goes on with the downloads that are finished.

mod apt;
mod archives;
mod check;
mod components;
mod install;
mod libtorch_cuda;
mod pip;
mod program;
mod python;
mod tools;
mod unpack;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub(crate) use components::Component;
use components::Way;

/// Fetch and check what cargo cannot: ONNX Runtime, pretrained weights, libtorch, furniture, test tools
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  cargo xtask setup                          what serving needs: ONNX Runtime and the pretrained weights
  cargo xtask setup --with libtorch          also what training needs (540 MB to download, 490 MB on disk)
  cargo xtask setup --with libtorch,furniture,chromium
  cargo xtask setup --provider openvino      also ONNX Runtime with OpenVINO (84 MB to download)
  cargo xtask setup --provider cuda          also ONNX Runtime for NVIDIA GPUs, cuBLAS and cuDNN (1.6 GB to download)
  cargo xtask setup --with libtorch-cuda     what training on NVIDIA GPUs needs (4.5 GB on disk)
  cargo xtask setup --with peers             also the Python programs that `dfml bench` compares with
  cargo xtask setup --check                  only say what is there; exit code 1 if something is missing")]
pub(crate) struct Args {
    /// What models run on
    #[arg(long, value_enum, default_value_t = Provider::Cpu)]
    provider: Provider,
    /// More components, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COMPONENT")]
    with: Vec<Component>,
    /// Only print what is there; exit code 1 if something that is asked for is missing
    #[arg(long)]
    check: bool,
}

/// What ONNX Runtime is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Provider {
    Cpu,
    /// Intel processors, in bfloat16 where they have it.
    Openvino,
    /// NVIDIA GPUs.
    Cuda,
}

/// Print the environment for building and running by hand, as shell commands
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  eval \"$(cargo xtask env)\" && cargo build -p dfml-train
  eval \"$(cargo xtask env --cuda)\" && cargo build --release -p dfml-train    for NVIDIA GPUs")]
pub(crate) struct EnvArgs {
    /// The libtorch and ONNX Runtime for NVIDIA GPUs
    #[arg(long)]
    cuda: bool,
}

/// What serving needs.
pub(crate) const BASIC: [Component; 2] = [Component::Onnxruntime, Component::Weights];

/// Runs `cargo xtask setup`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let provider = match args.provider {
        Provider::Cpu => None,
        Provider::Openvino => Some(Component::Openvino),
        Provider::Cuda => Some(Component::Cuda),
    };
    let mut wanted: Vec<Component> =
        BASIC.into_iter().chain(provider).chain(args.with.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if args.check {
        return check::print(&dfml_models::cache_dir(), &wanted);
    }
    let places = ensure(&wanted)?;
    println!("everything is in {}", places.cache.display());
    Ok(())
}

/// Installs what is missing of the components.
///
/// # Errors
/// A sentence that says what to do: which tool to install, or which file could not be fetched.
pub(crate) fn ensure(components: &[Component]) -> Result<Places> {
    let cache = dfml_models::cache_dir();
    fs_err::create_dir_all(&cache)
        .context("the cache folder cannot be made; DFML_CACHE_DIR names another one")?;
    let cache = fs_err::canonicalize(&cache)?;
    let _lock = install::lock(&cache)?;
    for component in components {
        match component.way()? {
            Way::Archives(recipe) => install::ensure(&cache, &recipe)?,
            Way::System => apt::ensure_chromium()?,
            Way::Program(program) => program.ensure(&cache)?,
            Way::Python(environment) => environment.ensure(&cache)?,
            Way::LibtorchCuda => libtorch_cuda::ensure(&cache)?,
            Way::None => bail!("{} is not made for this machine", component.name()),
        }
    }
    if components.iter().any(|component| component.builds_training()) {
        tools::require_cxx()?;
    }
    Ok(Places { cache })
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) cache: PathBuf,
}

impl Places {
    /// The places in the cache folder, whether or not something is there.
    pub(crate) fn here() -> Self {
        let cache = dfml_models::cache_dir();
        Self { cache: std::path::absolute(&cache).unwrap_or(cache) }
    }

    pub(crate) fn onnxruntime(&self) -> PathBuf {
        self.cache.join(components::ONNXRUNTIME_LIBRARY)
    }

    pub(crate) fn libtorch(&self) -> PathBuf {
        self.cache.join(components::LIBTORCH_FOLDER)
    }

    pub(crate) fn weights(&self) -> PathBuf {
        self.cache.join(components::WEIGHTS_FILE)
    }

    pub(crate) fn cargo_deny(&self) -> PathBuf {
        self.cache.join(components::CARGO_DENY)
    }

    /// As [`Places::environment`], for NVIDIA GPUs.
    fn cuda_environment(&self) -> [(&'static str, PathBuf); 2] {
        let onnxruntime = self.cache.join(components::ONNXRUNTIME_CUDA_LIBRARY);
        [("LIBTORCH", libtorch_cuda::libtorch(&self.cache)), ("ORT_DYLIB_PATH", onnxruntime)]
    }

    /// What to set for building and running.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LIBTORCH", self.libtorch()), ("ORT_DYLIB_PATH", self.onnxruntime())]
    }
}

/// Runs `cargo xtask env`.
pub(crate) fn print_env(args: &EnvArgs) -> Result<()> {
    let places = Places::here();
    let environment = if args.cuda { places.cuda_environment() } else { places.environment() };
    for (name, path) in environment {
        if path.exists() {
            println!("export {name}={}", crate::command::quoted(&path.to_string_lossy()));
        } else {
            eprintln!("{name} is left out: {} is missing, {}", path.display(), how_to_get(&path));
        }
    }
    Ok(())
}

fn how_to_get(path: &Path) -> &'static str {
    if path.ends_with(components::LIBTORCH_FOLDER) {
        "`cargo xtask setup --with libtorch` fetches it"
    } else if path.ends_with("torch") {
        "`cargo xtask setup --with libtorch-cuda` fetches it"
    } else if path.ends_with(components::ONNXRUNTIME_CUDA_LIBRARY) {
        "`cargo xtask setup --provider cuda` fetches it"
    } else {
        "`cargo xtask setup` fetches it"
    }
}
