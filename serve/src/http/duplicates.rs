//! `POST /v1/duplicates`: clusters of near-identical items, as a job.

use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::Value;

use super::{
    ApiError, AppState, Backend,
    jobs::{Accepted, Failure, Job, JobSpec, JobView, Runner},
    json,
};
use crate::duplicates::{self, Cluster, DuplicatesSpec, Member};

// A job's result is an excerpt: it is kept in memory and on disk as long as the job is remembered, and with too low a threshold everything
// is like everything. The command line writes all of it.

/// Most clusters in a job's result.
const CLUSTERS_MAX: usize = 1000;
/// Most items of one cluster in a job's result.
const MEMBERS_MAX: usize = 100;
/// Most items of all clusters in a job's result.
const MEMBERS_IN_ALL_MAX: usize = 2000;
/// Most bytes of the ids, names and paths of those items: a name may be of any length.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Find duplicates
///
/// Clusters of near-identical items, as a job: the result is in the job once it is done. It has the largest 1000 clusters at most, 100 items
/// of each and 2000 in all, and says how many it leaves out.
#[utoipa::path(
    post, path = "/v1/duplicates", tag = "jobs", request_body = DuplicatesSpec,
    responses((status = 202, description = "The job; `location` is its address.", body = JobView)),
)]
pub(super) async fn find_duplicates(
    State(state): State<AppState>,
    request: Request,
) -> Result<Accepted, ApiError> {
    let backend = state.backend()?;
    let spec: DuplicatesSpec = json::order(request).await?;
    threshold(&backend, &spec)?;
    Accepted::submit(&state, JobSpec::Duplicates(spec)).await
}

/// The least similarity that is meant.
fn threshold(backend: &Backend, spec: &DuplicatesSpec) -> Result<f32, ApiError> {
    let refused = |code, reason: &str| Err(ApiError::Unprocessable { code, reason: reason.to_owned() });
    match (spec.threshold, spec.min_probability) {
        (Some(similarity), None) if (-1.0..=1.0).contains(&similarity) => Ok(similarity as f32),
        (None, Some(least)) if (0.0..=1.0).contains(&least) => match &backend.manifest.calibration {
            Some(calibration) => match calibration.similarity(least) {
                Some(similarity) => Ok(similarity as f32),
                None => refused("unreachable_probability", "this model is never that certain"),
            },
            None => refused(
                "not_calibrated",
                "min_probability needs a calibrated model; `dfml calibrate` makes one",
            ),
        },
        (Some(_), Some(_)) | (None, None) => {
            refused("invalid_threshold", "give either threshold or min_probability")
        }
        _ => refused("invalid_threshold", "threshold is from -1 to 1, min_probability from 0 to 1"),
    }
}

impl Runner for DuplicatesSpec {
    fn run(self, state: &AppState, job: &Job) -> Result<Value, Failure> {
        let backend = state.backend()?;
        let threshold = threshold(&backend, &self)?;
        job.begin(backend.index.count()?);
        let clusters = duplicates::find(&*backend.index, threshold, self.across_products, |items| {
            job.step(items);
            !job.is_cancelled()
        })?;
        serde_json::to_value(Excerpt::of(clusters, threshold))
            .map_err(|error| ApiError::Internal(error.to_string()).into())
    }
}

/// As much of what was found as a job keeps.
#[derive(Debug, Serialize)]
struct Excerpt {
    /// The least similarity that was meant.
    threshold: f32,
    /// Clusters in all.
    clusters_found: usize,
    /// Items in all clusters.
    items: usize,
    /// Clusters that are not below.
    clusters_left_out: usize,
    /// Items that are not below, those of the clusters that are not below included.
    items_left_out: usize,
    /// The largest clusters.
    clusters: Vec<Part>,
}

/// As much of a cluster as a job keeps.
#[derive(Debug, Serialize)]
struct Part {
    #[serde(flatten)]
    cluster: Cluster,
    /// How many of its items are not in it.
    items_left_out: usize,
}

/// What a result has room for.
struct Room {
    members: usize,
    bytes: usize,
}

impl Excerpt {
    fn of(found: Vec<Cluster>, threshold: f32) -> Self {
        let clusters_found = found.len();
        let items: usize = found.iter().map(|cluster| cluster.items.len()).sum();
        let mut room = Room { members: MEMBERS_IN_ALL_MAX, bytes: TEXT_BYTES_MAX };
        let clusters: Vec<Part> =
            found.into_iter().take(CLUSTERS_MAX).map_while(|cluster| room.take(cluster)).collect();
        let shown: usize = clusters.iter().map(|part| part.cluster.items.len()).sum();
        Self {
            threshold,
            clusters_found,
            items,
            clusters_left_out: clusters_found - clusters.len(),
            items_left_out: items - shown,
            clusters,
        }
    }
}

impl Room {
    /// As much of a cluster as there is room for; `None` if that is not even two items, as one alone says nothing.
    fn take(&mut self, mut cluster: Cluster) -> Option<Part> {
        let found = cluster.items.len();
        let most = found.min(MEMBERS_MAX).min(self.members);
        let fitting = cluster.items.iter().take(most).take_while(|member| self.fit(member)).count();
        cluster.items.truncate(fitting);
        self.members -= fitting;
        (fitting > 1).then_some(Part { cluster, items_left_out: found - fitting })
    }

    /// Takes the room for an item's text, if there is any.
    fn fit(&mut self, member: &Member) -> bool {
        let Member { item_id, product_id, name, path } = member;
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let bytes = item_id.len() + product_id.len() + optional(name) + optional(path);
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(items: usize, name: &str) -> Cluster {
        let member = |number: usize| Member {
            item_id: number.to_string(),
            product_id: "p".to_owned(),
            name: Some(name.to_owned()),
            path: None,
        };
        Cluster { similarity: [0.9, 1.0], products: 1, items: (0..items).map(member).collect() }
    }

    fn kept(excerpt: &Excerpt) -> Vec<usize> {
        excerpt.clusters.iter().map(|part| part.cluster.items.len()).collect()
    }

    #[test]
    fn what_fits_is_kept_whole() {
        let excerpt = Excerpt::of(vec![cluster(100, "lamp"), cluster(2, "chair")], 0.9);
        assert_eq!((kept(&excerpt), excerpt.clusters_left_out, excerpt.items_left_out), (vec![100, 2], 0, 0));
        let written = serde_json::to_value(&excerpt).expect("JSON");
        assert_eq!((&written["clusters_found"], &written["items"]), (&json!(2), &json!(102)));
        let second = &written["clusters"][1];
        assert_eq!((&second["products"], &second["items_left_out"]), (&json!(1), &json!(0)));
        assert_eq!(second["items"][1]["item_id"], "1");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let one = Excerpt::of(vec![cluster(10_000, "")], -1.0);
        assert_eq!((kept(&one), one.clusters_left_out, one.items_left_out), (vec![100], 0, 9_900));
        assert_eq!(one.clusters[0].items_left_out, 9_900);

        let many = Excerpt::of(vec![cluster(2, ""); 1500], 0.9);
        assert_eq!((many.clusters.len(), many.clusters_left_out, many.items_left_out), (1000, 500, 1000));

        let large = Excerpt::of(vec![cluster(99, ""); 30], 0.9);
        let most: Vec<usize> = [vec![99; 20], vec![20]].concat();
        assert_eq!((kept(&large), large.clusters_left_out, large.items_left_out), (most, 9, 30 * 99 - 2000));

        let wordy = Excerpt::of(vec![cluster(3, &"x".repeat(400_000)), cluster(2, "")], 0.9);
        assert_eq!((kept(&wordy), wordy.clusters_left_out, wordy.items_left_out), (vec![2], 1, 3));
    }
}
