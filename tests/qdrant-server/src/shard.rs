//! One collection: the engine's shard and what is known about it, in a folder.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prost::Message as _;
use qdrant_client::qdrant::{
    CreateCollection, Distance as WireDistance, FieldType, quantization_config::Quantization, vectors_config,
};
use qdrant_edge::{
    CreateIndex, Distance, EdgeConfig, EdgeShard, EdgeVectorParams, FieldIndexOperations, OperationError,
    PayloadFieldSchema, PayloadSchemaType, UpdateOperation,
};
use tonic::Status;

/// A graph is built when nobody has written for this long.
const CALM: Duration = Duration::from_millis(500);

/// A collection.
pub(crate) struct Collection {
    /// How it was made.
    pub(crate) definition: CreateCollection,
    folder: PathBuf,
    shard: EdgeShard,
    /// Held by whoever writes or builds a graph; readers go on.
    writing: Mutex<()>,
    /// Indexed fields: an index is made again where the engine begins a new segment.
    indexes: Mutex<Vec<(String, i32)>>,
    written: Mutex<Option<Instant>>,
}

impl Collection {
    pub(crate) fn create(
        folder: &Path,
        definition: CreateCollection,
        graph_from_kb: usize,
    ) -> Result<Self, Status> {
        let shard = folder.join("shard");
        fs_err::create_dir_all(&shard).map_err(internal)?;
        let config = config(&definition, graph_from_kb)?;
        let shard = EdgeShard::new(&shard, config).map_err(status)?;
        shard.flush();
        // Last, and at once: a folder without it is no collection.
        write(&folder.join("definition"), &definition.encode_to_vec())?;
        Ok(Self::of(folder, definition, shard, Vec::new()))
    }

    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, Status> {
        let Ok(bytes) = fs_err::read(folder.join("definition")) else { return Ok(None) };
        let definition = CreateCollection::decode(&*bytes).map_err(internal)?;
        let shard = EdgeShard::load(&folder.join("shard"), None).map_err(status)?;
        let indexes = match fs_err::read(folder.join("indexes.json")) {
            Ok(text) => serde_json::from_slice(&text).map_err(internal)?,
            Err(_) => Vec::new(),
        };
        let collection = Self::of(folder, definition, shard, indexes);
        collection.index_again(&collection.shard)?;
        Ok(Some(collection))
    }

    fn of(
        folder: &Path,
        definition: CreateCollection,
        shard: EdgeShard,
        indexes: Vec<(String, i32)>,
    ) -> Self {
        Self {
            definition,
            folder: folder.to_owned(),
            shard,
            writing: Mutex::new(()),
            indexes: Mutex::new(indexes),
            written: Mutex::new(Some(Instant::now())),
        }
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&EdgeShard) -> Result<T, OperationError>,
    ) -> Result<T, Status> {
        read(&self.shard).map_err(status)
    }

    /// Writes, all or nothing of each operation; what was written is on disk when this returns.
    pub(crate) fn write(&self, operations: Vec<UpdateOperation>) -> Result<(), Status> {
        let (_writing, shard) = (self.writing.lock(), &self.shard);
        for operation in operations {
            shard.update(operation).map_err(status)?;
        }
        shard.flush();
        *self.written.lock() = Some(Instant::now());
        Ok(())
    }

    pub(crate) fn create_index(&self, field: String, kind: i32) -> Result<(), Status> {
        {
            let mut indexes = self.indexes.lock();
            indexes.retain(|(known, _)| *known != field);
            indexes.push((field, kind));
            write(&self.folder.join("indexes.json"), &serde_json::to_vec(&*indexes).map_err(internal)?)?;
        }
        let (_writing, shard) = (self.writing.lock(), &self.shard);
        self.index_again(shard)?;
        shard.flush();
        Ok(())
    }

    fn index_again(&self, shard: &EdgeShard) -> Result<(), Status> {
        for (field, kind) in &*self.indexes.lock() {
            let schema = match FieldType::try_from(*kind) {
                Ok(FieldType::Keyword) => PayloadSchemaType::Keyword,
                Ok(FieldType::Integer) => PayloadSchemaType::Integer,
                Ok(FieldType::Float) => PayloadSchemaType::Float,
                Ok(FieldType::Bool) => PayloadSchemaType::Bool,
                _ => return Err(Status::unimplemented("a kind of index")),
            };
            let field_name =
                field.parse().map_err(|()| Status::invalid_argument(format!("{field:?} is no path")))?;
            let index = CreateIndex { field_name, field_schema: Some(PayloadFieldSchema::FieldType(schema)) };
            let operation = FieldIndexOperations::CreateIndex(index);
            shard.update(UpdateOperation::FieldIndexOperation(operation)).map_err(status)?;
        }
        Ok(())
    }

    /// Builds graphs where writers have paused.
    pub(crate) fn optimise(&self) {
        let is_due = self.written.lock().is_some_and(|when| when.elapsed() > CALM);
        if !is_due {
            return;
        }
        *self.written.lock() = None;
        let (_writing, shard) = (self.writing.lock(), &self.shard);
        let outcome = shard.optimize().map_err(status).and_then(|_| self.index_again(shard));
        shard.flush();
        if let Err(error) = outcome {
            eprintln!("optimising {}: {error}", self.folder.display());
        }
    }
}

fn config(definition: &CreateCollection, graph_from_kb: usize) -> Result<EdgeConfig, Status> {
    let config = definition.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref());
    let Some(vectors_config::Config::Params(params)) = config else {
        return Err(Status::unimplemented("only one vector without a name"));
    };
    let distance = match params.distance() {
        WireDistance::Cosine => Distance::Cosine,
        WireDistance::Dot => Distance::Dot,
        WireDistance::Euclid => Distance::Euclid,
        _ => return Err(Status::unimplemented("a kind of distance")),
    };
    let mut edge = EdgeConfig::default();
    if let Some(hnsw) = &definition.hnsw_config {
        edge.hnsw_config.m = hnsw.m.map_or(edge.hnsw_config.m, |m| m as usize);
        edge.hnsw_config.ef_construct =
            hnsw.ef_construct.map_or(edge.hnsw_config.ef_construct, |ef| ef as usize);
    }
    edge.hnsw_config.full_scan_threshold = graph_from_kb;
    edge.optimizers.indexing_threshold = Some(graph_from_kb);
    edge.optimizers.default_segment_number = Some(1);
    let quantisation =
        definition.quantization_config.as_ref().and_then(|config| config.quantization.as_ref());
    edge.quantization_config = match quantisation {
        None => None,
        Some(Quantization::Scalar(_)) => {
            let scalar = serde_json::json!({ "scalar": { "type": "int8", "always_ram": true } });
            Some(serde_json::from_value(scalar).map_err(internal)?)
        }
        Some(_) => return Err(Status::unimplemented("a kind of quantisation")),
    };
    edge.vectors.insert(String::new(), EdgeVectorParams::builder(params.size as usize, distance).build());
    Ok(edge)
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), Status> {
    let beside = path.with_extension("new");
    let write = || {
        fs_err::write(&beside, contents)?;
        fs_err::File::open(&beside)?.sync_all()?;
        fs_err::rename(&beside, path)
    };
    write().map_err(internal)
}

pub(crate) fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// The engine's error as its server answers it.
pub(crate) fn status(error: OperationError) -> Status {
    let text = error.to_string();
    match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::ValidationError { .. }
        | OperationError::MissingRangeIndexForOrderBy { .. }
        | OperationError::MissingMapIndexForFacet { .. } => Status::invalid_argument(text),
        OperationError::PointIdError { .. } => Status::not_found(text),
        _ => Status::internal(text),
    }
}
