//! Collections: one for each model, and an alias of the one in use.

use dfml_index::IndexError;
use qdrant_client::qdrant::{
    CollectionInfo, CreateAliasBuilder, CreateCollection, CreateFieldIndexCollection, Distance, FieldType,
    HnswConfigDiff, QuantizationConfig, QuantizationType, ScalarQuantization, Value, VectorParams,
    VectorsConfig, quantization_config::Quantization, vectors_config,
};

use crate::{
    filter,
    options::{QdrantOptions, Quantisation},
    point::{AT, PRODUCT_HASH, integer, text},
    wire::{Wire, is_absent},
};

/// Version of the payload's layout, kept on the collection.
const FORMAT: i64 = 1;
const FORMAT_KEY: &str = "dfml_format";
const FINGERPRINT_KEY: &str = "dfml_model_fingerprint";
/// Digits of the fingerprint in a collection's name.
const DIGITS: usize = 16;

/// How the graph of a new collection is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Graph {
    pub(crate) links: usize,
    pub(crate) build_effort: usize,
}

/// What is known of a collection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) dim: usize,
    pub(crate) fingerprint: String,
}

/// The name of a model's collection.
pub(crate) fn generation(options: &QdrantOptions, fingerprint: &str) -> String {
    let digits: String = fingerprint.chars().filter(char::is_ascii_alphanumeric).take(DIGITS).collect();
    format!("{}-{digits}", options.collection)
}

/// Finds this model's collection, or makes it.
pub(crate) async fn open(
    wire: &Wire,
    options: &QdrantOptions,
    graph: Graph,
    (dim, fingerprint, create): (usize, &str, bool),
) -> Result<Facts, IndexError> {
    let name = generation(options, fingerprint);
    if let Some(facts) = look(wire, &name).await? {
        let path = || wire.place().into();
        if facts.fingerprint != fingerprint {
            let (expected, found) = (fingerprint.to_owned(), facts.fingerprint);
            return Err(IndexError::WrongModel { path: path(), expected, found });
        }
        if facts.dim != dim {
            return Err(IndexError::WrongDim { path: path(), expected: dim, found: facts.dim });
        }
        if create {
            // Whoever made it may have been cut short.
            index_fields(wire, options, &name).await?;
            set_first_alias(wire, options, &name).await?;
        }
        return Ok(facts);
    }
    if !create {
        return Err(match current(wire, options).await? {
            Some(found) => IndexError::WrongModel {
                path: wire.place().into(),
                expected: fingerprint.to_owned(),
                found: found.fingerprint,
            },
            None => IndexError::NotFound { path: wire.place().into() },
        });
    }
    make(wire, options, graph, &name, dim, fingerprint).await?;
    index_fields(wire, options, &name).await?;
    set_first_alias(wire, options, &name).await?;
    tracing::info!(place = wire.place(), collection = %name, "made a collection");
    Ok(Facts { name, dim, fingerprint: fingerprint.to_owned() })
}

/// The generation that the alias names.
pub(crate) async fn current(wire: &Wire, options: &QdrantOptions) -> Result<Option<Facts>, IndexError> {
    let aliases = wire.read(|client| async move { client.list_aliases().await }).await?.aliases;
    match aliases.into_iter().find(|alias| alias.alias_name == options.collection) {
        Some(alias) => look(wire, &alias.collection_name).await,
        None => Ok(None),
    }
}

/// Lets the alias name this generation from now on, at once for everybody.
pub(crate) async fn activate(wire: &Wire, options: &QdrantOptions, name: &str) -> Result<(), IndexError> {
    let request = CreateAliasBuilder::new(name, &options.collection);
    wire.write(|client| client_alias(client, request.clone())).await
}

/// Deletes a generation; its aliases go with it, and after the one in use the leases.
pub(crate) async fn remove(wire: &Wire, options: &QdrantOptions, name: &str) -> Result<(), IndexError> {
    wire.write(|client| async move { client.delete_collection(name.to_owned()).await.map(drop) }).await?;
    if current(wire, options).await?.is_some() {
        return Ok(());
    }
    let leases = &leases(options);
    wire.write(|client| async move { client.delete_collection(leases.clone()).await.map(drop) }).await
}

/// The name of the collection of leases.
pub(crate) fn leases(options: &QdrantOptions) -> String {
    format!("{}-leases", options.collection)
}

async fn client_alias(
    client: qdrant_client::Qdrant,
    request: CreateAliasBuilder,
) -> Result<(), qdrant_client::QdrantError> {
    client.create_alias(request).await.map(drop)
}

async fn set_first_alias(wire: &Wire, options: &QdrantOptions, name: &str) -> Result<(), IndexError> {
    match current(wire, options).await? {
        Some(_) => Ok(()),
        None => activate(wire, options, name).await,
    }
}

/// Figures of a collection as the engine has them; `None` if there is no such collection.
pub(crate) async fn info(wire: &Wire, name: &str) -> Result<Option<CollectionInfo>, IndexError> {
    let answer = wire
        .read(|client| async move {
            match client.collection_info(name.to_owned()).await {
                Ok(response) => Ok(response.result),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await?;
    Ok(answer)
}

async fn look(wire: &Wire, name: &str) -> Result<Option<Facts>, IndexError> {
    let Some(info) = info(wire, name).await? else { return Ok(None) };
    let foreign = |detail: &str| IndexError::Damaged {
        path: wire.place().into(),
        detail: format!("collection {name:?} {detail}"),
    };
    let config = info.config.ok_or_else(|| foreign("has no configuration"))?;
    let format = config.metadata.get(FORMAT_KEY).and_then(Value::as_integer);
    match format {
        Some(FORMAT) => {}
        Some(other) => {
            let found = u32::try_from(other).unwrap_or(u32::MAX);
            return Err(IndexError::UnsupportedFormat {
                path: wire.place().into(),
                found,
                supported: FORMAT as u32,
            });
        }
        None => return Err(foreign("does not say which model it is of: dfml has not made it")),
    }
    let fingerprint = config.metadata.get(FINGERPRINT_KEY).and_then(Value::as_str);
    let fingerprint = fingerprint.ok_or_else(|| foreign("does not say which model it is of"))?.to_owned();
    let vectors = config.params.and_then(|params| params.vectors_config).and_then(|vectors| vectors.config);
    let Some(vectors_config::Config::Params(params)) = vectors else {
        return Err(foreign("has several kinds of vectors"));
    };
    Ok(Some(Facts { name: name.to_owned(), dim: params.size as usize, fingerprint }))
}

async fn make(
    wire: &Wire,
    options: &QdrantOptions,
    graph: Graph,
    name: &str,
    dim: usize,
    fingerprint: &str,
) -> Result<(), IndexError> {
    let request = definition(options, graph, name, dim, fingerprint);
    let made = wire
        .write(|client| {
            let request = request.clone();
            async move { client.create_collection(request).await.map(drop) }
        })
        .await;
    match made {
        // Another process was faster, or the first try had succeeded after all.
        Err(_) if look(wire, name).await?.is_some() => Ok(()),
        made => made,
    }
}

fn definition(
    options: &QdrantOptions,
    graph: Graph,
    name: &str,
    dim: usize,
    fingerprint: &str,
) -> CreateCollection {
    #[expect(deprecated, reason = "engines before 1.20 do not know what replaces it")]
    let quantization_config = match options.quantisation {
        Quantisation::None => None,
        Quantisation::Int8 => Some(QuantizationConfig {
            quantization: Some(Quantization::Scalar(ScalarQuantization {
                r#type: QuantizationType::Int8.into(),
                quantile: None,
                always_ram: Some(true),
                memory: None,
            })),
        }),
    };
    #[expect(deprecated, reason = "engines before 1.20 do not know what replaces it")]
    let vectors = VectorParams {
        size: dim as u64,
        distance: Distance::Cosine.into(),
        on_disk: Some(options.vectors_on_disk),
        ..VectorParams::default()
    };
    CreateCollection {
        collection_name: name.to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(vectors_config::Config::Params(vectors)) }),
        quantization_config,
        hnsw_config: Some(HnswConfigDiff {
            m: Some(graph.links as u64),
            ef_construct: Some(graph.build_effort as u64),
            ..HnswConfigDiff::default()
        }),
        shard_number: options.shards,
        replication_factor: Some(options.replication_factor),
        write_consistency_factor: Some(options.write_consistency_factor),
        metadata: [
            (FORMAT_KEY.to_owned(), integer(FORMAT)),
            (FINGERPRINT_KEY.to_owned(), text(fingerprint.to_owned())),
        ]
        .into(),
        ..CreateCollection::default()
    }
}

/// Indexes of what is looked for: before anything is stored, because the graph gets links for them only while it is built.
async fn index_fields(wire: &Wire, options: &QdrantOptions, name: &str) -> Result<(), IndexError> {
    let own = [
        (filter::PRODUCT.to_owned(), FieldType::Keyword),
        (PRODUCT_HASH.to_owned(), FieldType::Integer),
        (AT.to_owned(), FieldType::Integer),
    ];
    let of = |fields: &[String], kind| {
        fields.iter().map(move |field| (filter::path(field), kind)).collect::<Vec<_>>()
    };
    let fields = own
        .into_iter()
        .chain(of(&options.keyword_fields, FieldType::Keyword))
        .chain(of(&options.number_fields, FieldType::Float))
        .chain(of(&options.bool_fields, FieldType::Bool));
    for (field_name, kind) in fields {
        let request = CreateFieldIndexCollection {
            collection_name: name.to_owned(),
            wait: Some(true),
            field_name,
            field_type: Some(kind.into()),
            ..CreateFieldIndexCollection::default()
        };
        wire.write(|client| {
            let request = request.clone();
            async move { client.create_field_index(request).await.map(drop) }
        })
        .await?;
    }
    Ok(())
}
