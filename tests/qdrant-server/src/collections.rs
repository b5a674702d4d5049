//! Calls about collections.

use std::sync::Arc;

use qdrant_client::qdrant::{
    AliasDescription, ChangeAliases, CollectionConfig, CollectionInfo, CollectionParams, CollectionStatus,
    alias_operations::Action,
};
use qdrant_edge::CountRequest;
use tonic::Status;

use crate::store::Store;

pub(crate) fn info(store: &Arc<Store>, name: &str) -> Result<CollectionInfo, Status> {
    let collection = store.get(name)?;
    let definition = &collection.definition;
    let (facts, points) = collection.read(|shard| {
        let points = shard.count(CountRequest { filter: None, exact: true })?;
        Ok((shard.info(), points))
    })?;
    let params = CollectionParams {
        shard_number: definition.shard_number.unwrap_or(1),
        vectors_config: definition.vectors_config.clone(),
        replication_factor: definition.replication_factor,
        write_consistency_factor: definition.write_consistency_factor,
        ..CollectionParams::default()
    };
    Ok(CollectionInfo {
        status: CollectionStatus::Green.into(),
        segments_count: facts.segments_count as u64,
        config: Some(CollectionConfig {
            params: Some(params),
            hnsw_config: definition.hnsw_config,
            quantization_config: definition.quantization_config.clone(),
            metadata: definition.metadata.clone(),
            ..CollectionConfig::default()
        }),
        points_count: Some(points as u64),
        indexed_vectors_count: Some(facts.indexed_vectors_count as u64),
        ..CollectionInfo::default()
    })
}

pub(crate) fn aliases(store: &Arc<Store>) -> Vec<AliasDescription> {
    let describe = |(alias_name, collection_name)| AliasDescription { alias_name, collection_name };
    store.aliases().into_iter().map(describe).collect()
}

pub(crate) fn change_aliases(store: &Arc<Store>, request: ChangeAliases) -> Result<(), Status> {
    let mut changes: Vec<(String, Option<String>)> = Vec::new();
    for operation in request.actions {
        match operation.action {
            Some(Action::CreateAlias(create)) => {
                store.get(&create.collection_name)?;
                changes.push((create.alias_name, Some(create.collection_name)));
            }
            Some(Action::DeleteAlias(delete)) => changes.push((delete.alias_name, None)),
            _ => return Err(Status::unimplemented("a change of aliases")),
        }
    }
    store.change_aliases(|aliases| {
        for (alias, target) in changes {
            match target {
                Some(target) => drop(aliases.insert(alias, target)),
                None => drop(aliases.remove(&alias)),
            }
        }
    })
}
