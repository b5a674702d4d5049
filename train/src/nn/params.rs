//! Named tensors of a network: what is trained, what is a buffer, and in which optimiser group.

use std::collections::BTreeMap;

use dfml_models::{Tensor as HostTensor, TensorMap};
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;

/// Optimiser group of a tensor: each has its own factor on the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Pretrained weights.
    Backbone,
    /// The linear embedding layer on pooled features.
    Embedding,
    /// Routers.
    Router,
    /// Not trained: running statistics and frozen weights.
    Buffer,
}

/// One named tensor.
#[derive(Debug)]
pub struct Param {
    /// The tensor; a leaf that requires gradient unless its group is [`Group::Buffer`].
    pub tensor: Tensor,
    /// Its optimiser group.
    pub group: Group,
}

/// The tensors of a network by name, in name order (so that iteration is deterministic).
#[derive(Debug, Default)]
pub struct Params {
    entries: BTreeMap<String, Param>,
}

impl Params {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor under `name` and returns a handle that shares its storage.
    pub fn insert(&mut self, name: String, tensor: Tensor, group: Group) -> Tensor {
        let tensor = tensor.detach().set_requires_grad(group != Group::Buffer);
        let handle = tensor.shallow_clone();
        self.entries.insert(name, Param { tensor, group });
        handle
    }

    /// Takes `name` out of `weights`, checks its shape and adds it.
    ///
    /// # Errors
    /// [`TrainError::MissingTensor`] and [`TrainError::Shape`] name the tensor and both shapes.
    pub fn load(
        &mut self,
        weights: &TensorMap,
        name: String,
        shape: &[usize],
        group: Group,
        device: Device,
    ) -> Result<Tensor, TrainError> {
        let host = weights.get(&name).ok_or_else(|| TrainError::MissingTensor { name: name.clone() })?;
        if host.shape != shape {
            return Err(TrainError::Shape { name, expected: shape.to_vec(), found: host.shape.clone() });
        }
        let tensor = from_host(host, device);
        Ok(self.insert(name, tensor, group))
    }

    /// All tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// The tensors that are trained, in name order.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.iter().filter(|(_, param)| param.group != Group::Buffer)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.get(name).map(|param| &param.tensor)
    }

    /// Copies every tensor to host memory as f32.
    pub fn to_host(&self) -> TensorMap {
        self.iter().map(|(name, param)| (name.to_owned(), to_host(&param.tensor))).collect()
    }
}

/// A host tensor on `device`, f32.
pub fn from_host(host: &HostTensor, device: Device) -> Tensor {
    let shape: Vec<i64> = host.shape.iter().map(|&n| n as i64).collect();
    Tensor::from_slice(&host.data).reshape(shape.as_slice()).to_device(device)
}

/// A tensor of any device and floating kind as contiguous f32 in host memory.
pub fn to_host(tensor: &Tensor) -> HostTensor {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let mut data = vec![0f32; tensor.numel()];
    let len = data.len();
    tensor.copy_data(&mut data, len);
    HostTensor { shape, data }
}
