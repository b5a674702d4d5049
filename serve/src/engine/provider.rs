//! Execution providers: what was asked for, what is in use, and why.

use std::{fmt, str::FromStr};

use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use serde::{Deserialize, Serialize};

/// Where the network is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The fastest provider that the ONNX Runtime library has and this machine can run.
    #[default]
    Auto,
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// NVIDIA GPU through CUDA.
    Cuda,
    /// NVIDIA GPU through TensorRT. Building its engine takes minutes, so `auto` does not pick it.
    Tensorrt,
    /// Intel CPU or GPU through OpenVINO.
    Openvino,
}

impl Provider {
    /// Whether this provider computes on a GPU.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda | Self::Tensorrt)
    }

    /// Whether it compiles the network anew for every batch size that it meets.
    pub(super) fn compiles_shapes(self) -> bool {
        !matches!(self, Self::Cpu)
    }

    /// The smallest cosine to the training network's embeddings that this provider's rounding allows: GPUs multiply in TF32,
    /// OpenVINO in bfloat16.
    pub(super) fn cosine_min(self) -> f64 {
        match self {
            Self::Auto | Self::Cpu => 1.0,
            Self::Cuda | Self::Tensorrt => 0.9999,
            Self::Openvino => 0.999,
        }
    }

    /// The providers to try, in order, before falling back to the CPU.
    pub(super) fn candidates(self) -> Vec<Self> {
        match self {
            Self::Auto => [Self::Cuda, Self::Openvino].into_iter().filter(|p| p.in_library()).collect(),
            Self::Cpu => Vec::new(),
            named => vec![named],
        }
    }

    /// Whether the loaded ONNX Runtime library was built with this provider. It says nothing about the machine.
    pub(super) fn in_library(self) -> bool {
        match self {
            Self::Auto | Self::Cpu => true,
            Self::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Self::Tensorrt => ep::TensorRT::is_available().unwrap_or(false),
            Self::Openvino => ep::OpenVINO::is_available().unwrap_or(false),
        }
    }

    /// The provider's registration, which fails loudly: ort's default is to log a failed provider and to go on with
    /// the CPU.
    pub(super) fn dispatch(self, threads: usize) -> Option<ExecutionProviderDispatch> {
        let dispatch = match self {
            Self::Auto | Self::Cpu => return None,
            Self::Cuda => ep::CUDA::default().build(),
            Self::Tensorrt => ep::TensorRT::default().build(),
            // Without a precision it computes in bfloat16 where the processor has it.
            Self::Openvino => ep::OpenVINO::default()
                .with_device_type("CPU")
                .with_num_threads(threads)
                .with_num_streams(1)
                .build(),
        };
        Some(dispatch.error_on_failure())
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        })
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(text, true)
            .map_err(|_| format!("unknown provider {text:?}; one of auto, cpu, cuda, tensorrt, openvino"))
    }
}

/// What the engine runs on, for the log, `/v1/info` and the metrics.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderReport {
    /// The provider asked for, e.g. `auto`.
    pub requested: String,
    /// The provider in use, e.g. `cpu`.
    pub active: String,
    /// Why the active provider is the one in use.
    pub reason: String,
    /// The runtime and its version, e.g. `ONNX Runtime 1.31.1`.
    pub runtime: String,
    /// Sessions side by side, and threads in each.
    pub sessions: usize,
    /// Threads that each session computes with; 0 where the provider decides.
    pub threads: usize,
    /// Threads of the session beside them that computes what has the machine to itself; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads_alone: Option<usize>,
    /// Bytes of the GPU's memory that the model takes; absent on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// Throughput of one session in the timed run at load, images per second.
    pub probe_images_per_second: f64,
}

impl fmt::Display for ProviderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "provider {} (requested {}: {}), {}, {} session(s) of {} thread(s)",
            self.active, self.requested, self.reason, self.runtime, self.sessions, self.threads
        )?;
        if let Some(threads) = self.threads_alone {
            write!(f, " and one of {threads}")?;
        }
        write!(f, ", probe {:.0} images/s", self.probe_images_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_unknown_ones_say_what_is_allowed() {
        for provider in
            [Provider::Auto, Provider::Cpu, Provider::Cuda, Provider::Tensorrt, Provider::Openvino]
        {
            assert_eq!(provider.to_string().parse(), Ok(provider));
        }
        let error = "gpu".parse::<Provider>().expect_err("not a provider");
        assert!(error.contains("\"gpu\"") && error.contains("cuda"), "{error}");
    }

    #[test]
    fn only_a_named_provider_is_tried_and_cpu_tries_none() {
        assert_eq!(Provider::Cuda.candidates(), [Provider::Cuda]);
        assert!(Provider::Cpu.candidates().is_empty());
        assert!(Provider::Cpu.dispatch(1).is_none());
    }
}
