//! Searching: from a request to the engine's query and back.

use std::collections::{BTreeSet, HashMap};

use dfml_index::{Example, Hit, IndexError, Item, SearchRequest};
use futures_util::{StreamExt, stream};
use qdrant_client::qdrant::{
    Condition, DenseVector, Filter as Conditions, QuantizationSearchParams, Query, QueryBatchPoints,
    QueryPointGroups, QueryPoints, ScoredPoint, SearchParams, Value, VectorInput, query, vector_input,
};

use crate::{
    filter,
    index::Remote,
    point::{self, AT, ID, METADATA},
};

/// Hits that are asked for without looking how many items there are.
const HITS_MANY: usize = 1000;
/// How far below the threshold the engine is asked to look: what is at the threshold is decided here.
const THRESHOLD_SLACK: f32 = 1e-5;
/// Searches in one request to the engine.
const TOGETHER: usize = 32;

/// A request made ready: one unit vector, and what may be found.
#[derive(Clone)]
struct Question {
    vector: Vec<f32>,
    conditions: Conditions,
    request: SearchRequest,
    /// Hits that are looked for, those left out by the offset included.
    wanted: usize,
}

/// A hit, and when its item was written.
struct Found {
    hit: Hit,
    at: i64,
}

impl Remote {
    pub(crate) async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        let question = self.question(request).await?;
        self.answer(question).await
    }

    pub(crate) async fn search_many(
        &self,
        requests: Vec<SearchRequest>,
    ) -> Result<Vec<Vec<Hit>>, IndexError> {
        let questions: Vec<_> = stream::iter(requests)
            .map(|request| async move { self.question(&request).await })
            .buffered(self.parallelism())
            .collect()
            .await;
        let questions: Vec<Question> = questions.into_iter().collect::<Result<_, _>>()?;
        let mut answers: Vec<Option<Vec<Hit>>> = questions.iter().map(|_| None).collect();
        let (grouped, single): (Vec<_>, Vec<_>) =
            questions.into_iter().enumerate().partition(|(_, question)| question.request.group_by_product);
        for some in single.chunks(TOGETHER) {
            let found = self.ask_together(some.iter().map(|(_, question)| question)).await?;
            for ((position, question), found) in some.iter().zip(found) {
                answers[*position] = Some(finish(found, question));
            }
        }
        let grouped: Vec<_> = stream::iter(grouped)
            .map(|(position, question)| async move { (position, self.answer(question).await) })
            .buffered(self.parallelism())
            .collect()
            .await;
        for (position, answer) in grouped {
            answers[position] = Some(answer?);
        }
        Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn answer(&self, question: Question) -> Result<Vec<Hit>, IndexError> {
        if question.request.k == 0 {
            return Ok(Vec::new());
        }
        let found = match question.request.group_by_product {
            true => self.ask_groups(&question).await?,
            false => self.ask_together(std::iter::once(&question)).await?.pop().unwrap_or_default(),
        };
        Ok(finish(found, &question))
    }

    /// Makes a request ready: its examples become one vector, and its filter conditions.
    async fn question(&self, request: &SearchRequest) -> Result<Question, IndexError> {
        let (items, products) = self.examples(request).await?;
        let vector = request.query(self.facts().dim, |example| match example {
            Example::Vector(vector) => Ok(vec![vector.clone()]),
            Example::Item(id) => match items.get(id) {
                Some(item) => Ok(vec![item.vector.clone()]),
                None => Err(IndexError::NoSuchItem { id: id.clone() }),
            },
            Example::Product(id) => match products.get(id).filter(|items| !items.is_empty()) {
                Some(items) => Ok(items.iter().map(|item| item.vector.clone()).collect()),
                None => Err(IndexError::NoSuchProduct { id: id.clone() }),
            },
        })?;
        let mut conditions = request.filter.as_ref().map(filter::conditions).unwrap_or_default();
        if request.exclude_examples {
            conditions.must.extend(excluded(request, &items).into_iter().map(filter::not));
        }
        let mut wanted = request.k.saturating_add(request.offset);
        if wanted > HITS_MANY {
            wanted = wanted.min(self.count().await?.max(1));
        }
        Ok(Question { vector, conditions, request: request.clone(), wanted })
    }

    /// The stored examples of a request, by id.
    async fn examples(
        &self,
        request: &SearchRequest,
    ) -> Result<(HashMap<String, Item>, HashMap<String, Vec<Item>>), IndexError> {
        let (mut ids, mut products) = (Vec::new(), HashMap::new());
        for example in request.positive.iter().chain(&request.negative) {
            match example {
                Example::Item(id) => ids.push(id.clone()),
                Example::Product(id) if !products.contains_key(id) => {
                    products.insert(id.clone(), self.product(id).await?);
                }
                Example::Product(_) | Example::Vector(_) => {}
            }
        }
        let stored = self.stored(&ids, true).await?;
        Ok((stored.into_iter().map(|stored| (stored.item.id.clone(), stored.item)).collect(), products))
    }

    async fn ask_together(
        &self,
        questions: impl Iterator<Item = &Question>,
    ) -> Result<Vec<Vec<Found>>, IndexError> {
        let query_points: Vec<QueryPoints> = questions.map(|question| self.query(question)).collect();
        let request = QueryBatchPoints {
            collection_name: self.facts().name.clone(),
            query_points,
            ..QueryBatchPoints::default()
        };
        let answer = self
            .wire()
            .read(|client| {
                let request = request.clone();
                async move { client.query_batch(request).await }
            })
            .await?;
        answer
            .result
            .into_iter()
            .map(|batch| batch.result.into_iter().map(|point| self.found(point)).collect())
            .collect()
    }

    fn query(&self, question: &Question) -> QueryPoints {
        QueryPoints {
            collection_name: self.facts().name.clone(),
            query: Some(nearest(&question.vector)),
            filter: Some(question.conditions.clone()),
            params: Some(self.params(&question.request)),
            score_threshold: question.request.threshold.map(|threshold| threshold - THRESHOLD_SLACK),
            limit: Some(question.wanted.max(1) as u64),
            with_payload: point::with_payload(&[ID, filter::PRODUCT, METADATA, AT]),
            with_vectors: point::with_vectors(false),
            ..QueryPoints::default()
        }
    }

    /// One hit for each product. The engine looks through the best points a few times and may come back with fewer groups than
    /// there are: it is asked again, without those it has named, until it names none.
    async fn ask_groups(&self, question: &Question) -> Result<Vec<Found>, IndexError> {
        let (mut found, mut named) = (Vec::<Found>::new(), BTreeSet::new());
        loop {
            let mut conditions = question.conditions.clone();
            if !named.is_empty() {
                conditions.must.push(filter::not(filter::products(named.iter().cloned().collect())));
            }
            let request = QueryPointGroups {
                collection_name: self.facts().name.clone(),
                query: Some(nearest(&question.vector)),
                filter: Some(conditions),
                params: Some(self.params(&question.request)),
                score_threshold: question.request.threshold.map(|threshold| threshold - THRESHOLD_SLACK),
                limit: Some((question.wanted - found.len()).max(1) as u64),
                group_size: Some(1),
                group_by: filter::PRODUCT.into(),
                with_payload: point::with_payload(&[ID, filter::PRODUCT, METADATA, AT]),
                with_vectors: point::with_vectors(false),
                ..QueryPointGroups::default()
            };
            let answer = self
                .wire()
                .read(|client| {
                    let request = request.clone();
                    async move { client.query_groups(request).await }
                })
                .await?;
            let groups = answer.result.unwrap_or_default().groups;
            let before = found.len();
            for hit in groups.into_iter().filter_map(|group| group.hits.into_iter().next()) {
                let hit = self.found(hit)?;
                // Never twice, whatever the engine says: this has to come to an end.
                if named.insert(hit.hit.product_id.clone()) {
                    found.push(hit);
                }
            }
            if found.len() == before || found.len() >= question.wanted {
                return Ok(found);
            }
        }
    }

    /// The effort of a search that does not name its own. The engine's graph is quantised, and a filter thins it out: measured on
    /// random vectors, recall@10 of 0.99 takes this much more than the embedded index needs.
    fn effort_of(&self, request: &SearchRequest) -> usize {
        let factor = if request.filter.is_some() { 8 } else { 2 };
        self.effort().saturating_mul(factor)
    }

    fn params(&self, request: &SearchRequest) -> SearchParams {
        SearchParams {
            hnsw_ef: Some(request.effort.unwrap_or_else(|| self.effort_of(request)) as u64),
            exact: Some(request.exact),
            quantization: Some(QuantizationSearchParams {
                ignore: Some(request.exact),
                rescore: Some(true),
                oversampling: Some(self.options().oversampling),
            }),
            ..SearchParams::default()
        }
    }

    fn found(&self, point: ScoredPoint) -> Result<Found, IndexError> {
        let at = point.payload.get(AT).and_then(Value::as_integer).unwrap_or_default();
        let stored = point::to_item(point.payload, None).map_err(|detail| self.damaged(detail))?;
        let Item { id: item_id, product_id, metadata, .. } = stored.item;
        Ok(Found { hit: Hit { item_id, product_id, score: point.score, metadata }, at })
    }
}

/// What is not to be found because it was asked with.
fn excluded(request: &SearchRequest, items: &HashMap<String, Item>) -> Vec<Condition> {
    let (mut ids, mut products) = (Vec::new(), Vec::new());
    for example in request.positive.iter().chain(&request.negative) {
        match example {
            Example::Item(id) => {
                ids.push(id.clone());
                let product = items.get(id).filter(|_| request.group_by_product);
                products.extend(product.map(|item| item.product_id.clone()));
            }
            Example::Product(id) => products.push(id.clone()),
            Example::Vector(_) => {}
        }
    }
    let points = (!ids.is_empty()).then(|| filter::points(&ids));
    let products = (!products.is_empty()).then(|| filter::products(products));
    points.into_iter().chain(products).collect()
}

fn nearest(vector: &[f32]) -> Query {
    let dense = vector_input::Variant::Dense(DenseVector { data: vector.to_vec() });
    Query { variant: Some(query::Variant::Nearest(VectorInput { variant: Some(dense) })) }
}

/// The hits that were asked for: best first, of equal ones the oldest.
fn finish(mut found: Vec<Found>, question: &Question) -> Vec<Hit> {
    let request = &question.request;
    found.retain(|found| request.threshold.is_none_or(|threshold| found.hit.score >= threshold));
    found.sort_by(|a, b| b.hit.score.total_cmp(&a.hit.score).then(a.at.cmp(&b.at)));
    found.into_iter().map(|found| found.hit).skip(request.offset).take(request.k).collect()
}
