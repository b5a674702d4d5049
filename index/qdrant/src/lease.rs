//! Leases: what only one process may do at a time, decided by the engine.
//!
//! A lease is a point of the collection `NAME-leases` that says who holds it until when. Taking it is one conditional
//! write, which the engine carries out wholly or not at all. The clocks of the processes must not be further apart than
//! the slack.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dfml_index::IndexError;
use qdrant_client::qdrant::{
    CreateCollection, Distance, FieldCondition, Filter as Conditions, GetPoints, PointStruct, PointsSelector,
    Range, SetPayloadPoints, UpsertPoints, Value, VectorParams, VectorsConfig, WriteOrdering,
    WriteOrderingType, r#match::MatchValue, points_selector::PointsSelectorOneOf, vectors_config,
};
use tokio::{runtime::Handle, task::JoinHandle};
use uuid::Uuid;

use crate::{
    clock::now_micros,
    filter, ids,
    index::Remote,
    point::{integer, text},
};

const OWNER: &str = "owner";
const UNTIL: &str = "until";
/// How long a lease holds without being renewed.
const TERM: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(8);
/// How much later than its end somebody else may take it.
const SLACK: Duration = Duration::from_secs(5);

/// A lease, renewed until it is dropped.
pub(crate) struct Lease {
    held: Arc<AtomicBool>,
    renewing: JoinHandle<()>,
    remote: Arc<Remote>,
    name: String,
    owner: String,
    handle: Handle,
}

impl dfml_index::Lease for Lease {
    fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        let (remote, name, owner) = (Arc::clone(&self.remote), self.name.clone(), self.owner.clone());
        self.handle.spawn(async move {
            // One that cannot be given back ends by itself.
            if let Err(error) = set(&remote, &name, &owner, 0, held_by(&owner)).await {
                tracing::debug!(%error, lease = %name, "not given back");
            }
        });
    }
}

/// Takes the lease, if nobody else has it.
pub(crate) async fn take(
    remote: Arc<Remote>,
    name: &str,
    handle: Handle,
) -> Result<Option<Lease>, IndexError> {
    prepare(&remote, name).await?;
    let owner = Uuid::now_v7().to_string();
    if !grasp(&remote, name, &owner).await? {
        return Ok(None);
    }
    let held = Arc::new(AtomicBool::new(true));
    let renewing =
        tokio::spawn(renew(Arc::clone(&remote), name.to_owned(), owner.clone(), Arc::clone(&held)));
    Ok(Some(Lease { held, renewing, remote, name: name.to_owned(), owner, handle }))
}

async fn renew(remote: Arc<Remote>, name: String, owner: String, held: Arc<AtomicBool>) {
    let mut last = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(RENEWED).await;
        match grasp(&remote, &name, &owner).await {
            Ok(true) => last = tokio::time::Instant::now(),
            Ok(false) => break,
            Err(error) if last.elapsed() + RENEWED < TERM => {
                tracing::warn!(%error, lease = %name, "a lease could not be renewed yet");
            }
            Err(_) => break,
        }
    }
    held.store(false, Ordering::SeqCst);
    tracing::error!(lease = %name, "a lease is lost");
}

/// Takes or renews it; whether it is held now.
async fn grasp(remote: &Remote, name: &str, owner: &str) -> Result<bool, IndexError> {
    let (now, micros) = (now_micros(), |time: Duration| time.as_micros() as i64);
    let over = Range { lt: Some((now - micros(SLACK)) as f64), ..Range::default() };
    let over = FieldCondition { key: UNTIL.into(), range: Some(over), ..FieldCondition::default() };
    let free = Conditions {
        should: vec![filter::field(over), filter::matching(OWNER, MatchValue::Keyword(owner.to_owned()))],
        ..Conditions::default()
    };
    set(remote, name, owner, now + micros(TERM), free).await?;
    let request = GetPoints {
        collection_name: collection(remote),
        ids: vec![ids::point_id(name)],
        with_payload: crate::point::with_payload(&[OWNER]),
        ..GetPoints::default()
    };
    let answer = remote
        .wire()
        .read(|client| {
            let request = request.clone();
            async move { client.get_points(request).await }
        })
        .await?;
    let holder = answer.result.first().and_then(|point| point.payload.get(OWNER)).and_then(Value::as_str);
    Ok(holder.is_some_and(|holder| holder == owner))
}

fn held_by(owner: &str) -> Conditions {
    let condition = filter::matching(OWNER, MatchValue::Keyword(owner.to_owned()));
    Conditions { must: vec![condition], ..Conditions::default() }
}

async fn set(
    remote: &Remote,
    name: &str,
    owner: &str,
    until: i64,
    mut conditions: Conditions,
) -> Result<(), IndexError> {
    conditions.must.push(filter::points(&[name.to_owned()]));
    let request = SetPayloadPoints {
        collection_name: collection(remote),
        wait: Some(true),
        payload: [(OWNER.to_owned(), text(owner.to_owned())), (UNTIL.to_owned(), integer(until))].into(),
        points_selector: Some(PointsSelector {
            points_selector_one_of: Some(PointsSelectorOneOf::Filter(conditions)),
        }),
        ordering: Some(WriteOrdering { r#type: WriteOrderingType::Strong.into() }),
        ..SetPayloadPoints::default()
    };
    remote
        .wire()
        .write(|client| {
            let request = request.clone();
            async move { client.set_payload(request).await.map(drop) }
        })
        .await
}

/// Makes the collection and the point, if they are not there.
async fn prepare(remote: &Remote, name: &str) -> Result<(), IndexError> {
    let collection_name = collection(remote);
    if crate::collection::info(remote.wire(), &collection_name).await?.is_none() {
        let vectors = VectorParams { size: 1, distance: Distance::Dot.into(), ..VectorParams::default() };
        let request = CreateCollection {
            collection_name: collection_name.clone(),
            vectors_config: Some(VectorsConfig { config: Some(vectors_config::Config::Params(vectors)) }),
            shard_number: Some(1),
            replication_factor: Some(remote.options().replication_factor),
            write_consistency_factor: Some(remote.options().write_consistency_factor),
            ..CreateCollection::default()
        };
        let made = remote
            .wire()
            .write(|client| {
                let request = request.clone();
                async move { client.create_collection(request).await.map(drop) }
            })
            .await;
        if made.is_err() && crate::collection::info(remote.wire(), &collection_name).await?.is_none() {
            made?;
        }
    }
    let point = PointStruct {
        id: Some(ids::point_id(name)),
        payload: [(OWNER.to_owned(), text(String::new())), (UNTIL.to_owned(), integer(0))].into(),
        vectors: Some(vec![1.0f32].into()),
    };
    let request = UpsertPoints {
        collection_name,
        wait: Some(true),
        points: vec![point],
        // Only if there is none: no point that is there is none of the points.
        update_filter: Some(Conditions { must: vec![filter::points(&[])], ..Conditions::default() }),
        ..UpsertPoints::default()
    };
    remote
        .wire()
        .write(|client| {
            let request = request.clone();
            async move { client.upsert_points(request).await.map(drop) }
        })
        .await
}

fn collection(remote: &Remote) -> String {
    crate::collection::leases(remote.options())
}
