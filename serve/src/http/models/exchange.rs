//! The steps of an exchange.

use std::{path::Path, sync::Arc};

use dfml_index::{EmbeddedIndex, OpenOptions};
use serde_json::{Value, json};

use super::{Active, ModelHost, ModelSpec, recall, transfer::Transfer};
use crate::{
    engine::Engine,
    http::{
        AppState, Backend,
        jobs::{Job, Runner, inside},
    },
};

/// Rounds of catching up with changes before writers are kept out for the last one.
const ROUNDS_MAX: usize = 8;
/// Few enough changes to keep writers out while they are caught up with.
const CHANGES_FEW: usize = 16;

impl Runner for ModelSpec {
    fn run(self, state: &AppState, job: &Job) -> Result<Value, String> {
        let host =
            state.options().models.clone().ok_or("exchanging the model is switched off on this server")?;
        let old = state.backend().map_err(|error| error.to_string())?;
        if old.index.is_shared() {
            // Of what other servers change meanwhile this one would hear nothing.
            return Err("other servers share this catalogue: fill the next model's with `dfml index import`, then start the servers \
                        with it one by one"
                .to_owned());
        }
        if self.back {
            return self.go_back(state, job, &host, &old);
        }
        let next = Arc::new(load(&self, state, &host, &old)?);
        // Changes are noted for the next model from here on, no longer for the one before.
        state.forget_previous();
        state.gate().start_journal();
        let outcome = self.take_over(state, job, &host, &old, &next);
        if outcome.is_err() {
            state.gate().stop_journal();
        }
        outcome
    }
}

impl ModelSpec {
    fn take_over(
        &self,
        state: &AppState,
        job: &Job,
        host: &ModelHost,
        old: &Arc<Backend>,
        next: &Arc<Backend>,
    ) -> Result<Value, String> {
        let images = state.options().images.as_deref();
        let mut transfer =
            Transfer { from: old, to: next, images, job, pace: self.images_per_second, missing: 0 };
        job.begin(items(old)?);
        transfer.everything()?;
        if transfer.missing > 0 && !self.allow_missing {
            let missing = transfer.missing;
            return Err(format!(
                "{missing} items have no picture that can be embedded again and would be lost; allow_missing lets them go"
            ));
        }
        for _ in 0..ROUNDS_MAX {
            let changed = state.gate().take_journal();
            let few = changed.len() <= CHANGES_FEW;
            transfer.items(&changed)?;
            if few {
                break;
            }
        }
        let recall = self.check(state, old, next)?;
        switch(state, host, &mut transfer, next)?;
        Ok(
            json!({ "model": next.label(), "before": old.label(), "items": items(next)?, "missing": transfer.missing,
            "recall_at_1": recall }),
        )
    }

    /// Recall of both models on the queries; an error if the next one is not good enough.
    fn check(&self, state: &AppState, old: &Backend, next: &Backend) -> Result<Value, String> {
        let Some(queries) = &self.queries else { return Ok(Value::Null) };
        let folder = state
            .options()
            .import_dir
            .as_deref()
            .ok_or("queries need an import folder (server.import_dir)")?;
        let list = inside(folder, queries)?;
        let (before, after) = (recall::at_1(old, &list)?, recall::at_1(next, &list)?);
        let least = self.min_recall_at_1.unwrap_or(before);
        if after < least {
            return Err(format!(
                "the next model finds {after:.4} of the queries first, and {least:.4} is required"
            ));
        }
        Ok(json!({ "before": before, "after": after }))
    }

    /// Changes back to the model before, with everything that has been changed since.
    fn go_back(
        &self,
        state: &AppState,
        job: &Job,
        host: &ModelHost,
        now: &Arc<Backend>,
    ) -> Result<Value, String> {
        let before = state.previous().ok_or("there is no model to go back to")?;
        let images = state.options().images.as_deref();
        let mut transfer =
            Transfer { from: now, to: &before, images, job, pace: self.images_per_second, missing: 0 };
        let changed = state.gate().take_journal();
        job.begin(changed.len());
        transfer.items(&changed).inspect_err(|_| state.gate().note(changed))?;
        switch(state, host, &mut transfer, &before)?;
        Ok(
            json!({ "model": before.label(), "before": now.label(), "items": items(&before)?, "missing": transfer.missing }),
        )
    }
}

/// Keeps writers out for a moment, catches up with the last changes, and changes places. From here on changes are noted for going back.
fn switch(
    state: &AppState,
    host: &ModelHost,
    transfer: &mut Transfer<'_>,
    next: &Arc<Backend>,
) -> Result<(), String> {
    let closed = state.gate().close();
    transfer.items(&state.gate().take_journal())?;
    next.index.flush().map_err(|error| error.to_string())?;
    if let Some(active) = &next.active {
        active.write(&host.stores).map_err(|error| format!("the change cannot be written down: {error}"))?;
    }
    state.exchange(Arc::clone(next));
    state.gate().start_journal();
    drop(closed);
    tracing::info!(model = %next.label(), "the model has been exchanged");
    Ok(())
}

fn items(backend: &Backend) -> Result<usize, String> {
    backend.index.count().map_err(|error| error.to_string())
}

fn load(spec: &ModelSpec, state: &AppState, host: &ModelHost, old: &Backend) -> Result<Backend, String> {
    let folder = inside(&host.models, &spec.model)?;
    let mut engine = Engine::load(&folder, &host.engine).map_err(|error| plain(&folder, &error))?;
    let fingerprint = engine.manifest().fingerprint();
    if fingerprint == old.manifest.fingerprint() {
        return Err("this is the model that serves already".to_owned());
    }
    engine.warm_up(host.batch.max_batch).map_err(|error| plain(&folder, &error))?;
    let store = host.stores.join(&fingerprint[..16]);
    fs_err::create_dir_all(&host.stores).map_err(|error| error.to_string())?;
    let options = OpenOptions {
        create: true,
        tuning: host.tuning.clone(),
        ..OpenOptions::new(engine.manifest().embedding_dim, fingerprint)
    };
    let index = EmbeddedIndex::open(&store, options).map_err(|error| error.to_string())?;
    let mut backend = Backend::new(Arc::new(engine), host.batch, state.metrics_shared(), Arc::new(index))
        .map_err(|error| error.to_string())?;
    backend.active = Some(Active { model: folder, store });
    Ok(backend)
}

/// An error's text without where the folder is on the server.
fn plain(folder: &Path, error: &dyn std::fmt::Display) -> String {
    error.to_string().replace(&format!("{}", folder.display()), "the model")
}
