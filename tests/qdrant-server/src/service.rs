//! The wire's services: each call on a thread that may wait for the disk. What no test needs is refused.

use std::sync::Arc;

use qdrant_client::qdrant::{self as wire, collections_server, points_server, qdrant_server};
use tonic::{Request, Response, Status};

use crate::{collections, points::Points, store::Store};

/// All services.
#[derive(Clone)]
pub(crate) struct Service {
    store: Arc<Store>,
    points: Points,
}

impl Service {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { points: Points(Arc::clone(&store)), store }
    }
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<Response<T>, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::internal(format!("panicked: {error}")))?.map(Response::new)
}

fn changed(_: ()) -> wire::PointsOperationResponse {
    let result = wire::UpdateResult { operation_id: None, status: wire::UpdateStatus::Completed.into() };
    wire::PointsOperationResponse { result: Some(result), ..wire::PointsOperationResponse::default() }
}

fn done(_: ()) -> wire::CollectionOperationResponse {
    wire::CollectionOperationResponse { result: true, time: 0.0 }
}

/// A service of which only some calls are answered.
macro_rules! service {
    ($service:path { $($answered:tt)* } refuses { $($name:ident: $request:ident -> $response:ident,)* }) => {
        #[tonic::async_trait]
        impl $service for Service {
            $($answered)*
            $(async fn $name(&self, _: Request<wire::$request>) -> Result<Response<wire::$response>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! {
    qdrant_server::Qdrant {
        async fn health_check(
            &self,
            _: Request<wire::HealthCheckRequest>,
        ) -> Result<Response<wire::HealthCheckReply>, Status> {
            Ok(Response::new(wire::HealthCheckReply {
                title: "qdrant - vector search engine".to_owned(),
                version: "1.20.0-edge".to_owned(),
                commit: None,
            }))
        }
    }
    refuses {}
}

service! {
    collections_server::Collections {
        async fn get(
            &self,
            request: Request<wire::GetCollectionInfoRequest>,
        ) -> Result<Response<wire::GetCollectionInfoResponse>, Status> {
            let (store, request) = (Arc::clone(&self.store), request.into_inner());
            run(move || {
                let result = Some(collections::info(&store, &request.collection_name)?);
                Ok(wire::GetCollectionInfoResponse { result, time: 0.0 })
            })
            .await
        }

        async fn list(
            &self,
            _: Request<wire::ListCollectionsRequest>,
        ) -> Result<Response<wire::ListCollectionsResponse>, Status> {
            let collections = self.store.names().into_iter().map(|name| wire::CollectionDescription { name }).collect();
            Ok(Response::new(wire::ListCollectionsResponse { collections, time: 0.0 }))
        }

        async fn create(
            &self,
            request: Request<wire::CreateCollection>,
        ) -> Result<Response<wire::CollectionOperationResponse>, Status> {
            let store = Arc::clone(&self.store);
            run(move || store.create(request.into_inner()).map(done)).await
        }

        async fn delete(
            &self,
            request: Request<wire::DeleteCollection>,
        ) -> Result<Response<wire::CollectionOperationResponse>, Status> {
            let store = Arc::clone(&self.store);
            run(move || {
                let result = store.delete(&request.into_inner().collection_name)?;
                Ok(wire::CollectionOperationResponse { result, time: 0.0 })
            })
            .await
        }

        async fn update_aliases(
            &self,
            request: Request<wire::ChangeAliases>,
        ) -> Result<Response<wire::CollectionOperationResponse>, Status> {
            let store = Arc::clone(&self.store);
            run(move || collections::change_aliases(&store, request.into_inner()).map(done)).await
        }

        async fn list_aliases(
            &self,
            _: Request<wire::ListAliasesRequest>,
        ) -> Result<Response<wire::ListAliasesResponse>, Status> {
            let aliases = collections::aliases(&self.store);
            Ok(Response::new(wire::ListAliasesResponse { aliases, time: 0.0 }))
        }

        async fn collection_exists(
            &self,
            request: Request<wire::CollectionExistsRequest>,
        ) -> Result<Response<wire::CollectionExistsResponse>, Status> {
            let exists = self.store.get(&request.into_inner().collection_name).is_ok();
            let result = Some(wire::CollectionExists { exists });
            Ok(Response::new(wire::CollectionExistsResponse { result, time: 0.0 }))
        }
    }
    refuses {
        update: UpdateCollection -> CollectionOperationResponse,
        list_collection_aliases: ListCollectionAliasesRequest -> ListAliasesResponse,
        collection_cluster_info: CollectionClusterInfoRequest -> CollectionClusterInfoResponse,
        update_collection_cluster_setup:
            UpdateCollectionClusterSetupRequest -> UpdateCollectionClusterSetupResponse,
        create_shard_key: CreateShardKeyRequest -> CreateShardKeyResponse,
        delete_shard_key: DeleteShardKeyRequest -> DeleteShardKeyResponse,
        list_shard_keys: ListShardKeysRequest -> ListShardKeysResponse,
    }
}

service! {
    points_server::Points {
        async fn upsert(
            &self,
            request: Request<wire::UpsertPoints>,
        ) -> Result<Response<wire::PointsOperationResponse>, Status> {
            let points = self.points.clone();
            run(move || points.upsert(request.into_inner()).map(changed)).await
        }

        async fn delete(
            &self,
            request: Request<wire::DeletePoints>,
        ) -> Result<Response<wire::PointsOperationResponse>, Status> {
            let points = self.points.clone();
            run(move || points.delete(request.into_inner()).map(changed)).await
        }

        async fn set_payload(
            &self,
            request: Request<wire::SetPayloadPoints>,
        ) -> Result<Response<wire::PointsOperationResponse>, Status> {
            let points = self.points.clone();
            run(move || points.set_payload(request.into_inner()).map(changed)).await
        }

        async fn update_batch(
            &self,
            request: Request<wire::UpdateBatchPoints>,
        ) -> Result<Response<wire::UpdateBatchResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let count = points.update_batch(request.into_inner())?;
                let completed = wire::UpdateStatus::Completed.into();
                let result = vec![wire::UpdateResult { operation_id: None, status: completed }; count];
                Ok(wire::UpdateBatchResponse { result, ..wire::UpdateBatchResponse::default() })
            })
            .await
        }

        async fn create_field_index(
            &self,
            request: Request<wire::CreateFieldIndexCollection>,
        ) -> Result<Response<wire::PointsOperationResponse>, Status> {
            let points = self.points.clone();
            run(move || points.create_index(request.into_inner()).map(changed)).await
        }

        async fn get(&self, request: Request<wire::GetPoints>) -> Result<Response<wire::GetResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let result = points.get(request.into_inner())?;
                Ok(wire::GetResponse { result, ..wire::GetResponse::default() })
            })
            .await
        }

        async fn scroll(
            &self,
            request: Request<wire::ScrollPoints>,
        ) -> Result<Response<wire::ScrollResponse>, Status> {
            let points = self.points.clone();
            run(move || points.scroll(request.into_inner())).await
        }

        async fn count(&self, request: Request<wire::CountPoints>) -> Result<Response<wire::CountResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let count = points.count(request.into_inner())?;
                let result = Some(wire::CountResult { count });
                Ok(wire::CountResponse { result, ..wire::CountResponse::default() })
            })
            .await
        }

        async fn query(&self, request: Request<wire::QueryPoints>) -> Result<Response<wire::QueryResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let result = points.query(request.into_inner())?;
                Ok(wire::QueryResponse { result, ..wire::QueryResponse::default() })
            })
            .await
        }

        async fn query_batch(
            &self,
            request: Request<wire::QueryBatchPoints>,
        ) -> Result<Response<wire::QueryBatchResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let answer = |query| Ok(wire::BatchResult { result: points.query(query)? });
                let result = request.into_inner().query_points.into_iter().map(answer).collect::<Result<_, Status>>()?;
                Ok(wire::QueryBatchResponse { result, ..wire::QueryBatchResponse::default() })
            })
            .await
        }

        async fn query_groups(
            &self,
            request: Request<wire::QueryPointGroups>,
        ) -> Result<Response<wire::QueryGroupsResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let groups = points.query_groups(request.into_inner())?;
                let result = Some(wire::GroupsResult { groups });
                Ok(wire::QueryGroupsResponse { result, ..wire::QueryGroupsResponse::default() })
            })
            .await
        }

        async fn facet(&self, request: Request<wire::FacetCounts>) -> Result<Response<wire::FacetResponse>, Status> {
            let points = self.points.clone();
            run(move || {
                let hits = points.facet(request.into_inner())?;
                Ok(wire::FacetResponse { hits, ..wire::FacetResponse::default() })
            })
            .await
        }
    }
    refuses {
        update_vectors: UpdatePointVectors -> PointsOperationResponse,
        delete_vectors: DeletePointVectors -> PointsOperationResponse,
        overwrite_payload: SetPayloadPoints -> PointsOperationResponse,
        delete_payload: DeletePayloadPoints -> PointsOperationResponse,
        clear_payload: ClearPayloadPoints -> PointsOperationResponse,
        delete_field_index: DeleteFieldIndexCollection -> PointsOperationResponse,
        create_vector_name: CreateVectorNameRequest -> PointsOperationResponse,
        delete_vector_name: DeleteVectorNameRequest -> PointsOperationResponse,
        search: SearchPoints -> SearchResponse,
        search_batch: SearchBatchPoints -> SearchBatchResponse,
        search_groups: SearchPointGroups -> SearchGroupsResponse,
        recommend: RecommendPoints -> RecommendResponse,
        recommend_batch: RecommendBatchPoints -> RecommendBatchResponse,
        recommend_groups: RecommendPointGroups -> RecommendGroupsResponse,
        discover: DiscoverPoints -> DiscoverResponse,
        discover_batch: DiscoverBatchPoints -> DiscoverBatchResponse,
        search_matrix_pairs: SearchMatrixPoints -> SearchMatrixPairsResponse,
        search_matrix_offsets: SearchMatrixPoints -> SearchMatrixOffsetsResponse,
    }
}
