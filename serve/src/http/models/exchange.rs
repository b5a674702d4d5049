//! The steps of an exchange.

use std::{collections::BTreeSet, sync::Arc};

use dfml_index::{EmbeddedIndex, IndexError, OpenOptions, sop::SopList};
use serde_json::{Value, json};

use super::{Active, ModelHost, ModelSpec, TOO_MANY_CHANGES, no_way_back, recall, transfer::Transfer};
use crate::{
    engine::{Engine, EngineError},
    http::{
        AppState, Backend,
        catalogue::{Changes, Gate},
        jobs::{Failure, Job, Runner, inside},
    },
};

/// Rounds of catching up with changes before writers are kept out for the last one.
const ROUNDS_MAX: usize = 8;
/// Few enough changes to keep writers out while they are caught up with.
const CHANGES_FEW: usize = 16;

impl Runner for ModelSpec {
    fn run(self, state: &AppState, job: &Job) -> Result<Value, Failure> {
        let host =
            state.options().models.as_ref().ok_or("exchanging the model is switched off on this server")?;
        let now = state.backend()?;
        if now.index.is_shared() {
            // Of what other servers change meanwhile this one would hear nothing.
            return Err("other servers share this catalogue: fill the next model's with `dfml index import`, then start the servers \
                        with it one by one"
                .into());
        }
        let exchange = Exchange { spec: &self, state, job, host, now };
        if self.back { exchange.back() } else { exchange.forward() }
    }
}

/// An exchange under way.
struct Exchange<'a> {
    spec: &'a ModelSpec,
    state: &'a AppState,
    job: &'a Job,
    host: &'a ModelHost,
    /// The model that serves until it is over.
    now: Arc<Backend>,
}

impl<'a> Exchange<'a> {
    /// Loads another model, makes its catalogue, and has it take over.
    fn forward(&self) -> Result<Value, Failure> {
        let next = Arc::new(self.load()?);
        // Changes are noted for the next model from here on, no longer for the one before.
        self.state.forget_previous();
        let noting = Noting::start(self.state.gate());
        let mut transfer = self.transfer(&next);
        self.job.begin(self.now.index.count()?);
        transfer.everything()?;
        transfer.refuse_losses()?;
        let mut carried = self.catch_up(&mut transfer)?;
        let recall = self.judge(&next)?;
        // That takes its time, in which more may have changed than writers should be kept out for.
        carried.extend(self.catch_up(&mut transfer)?);
        self.switch(&mut transfer, &next)?;
        carried.into_iter().for_each(Changes::carried_over);
        noting.keep();
        Ok(json!({
            "model": next.label(),
            "before": self.now.label(),
            "items": next.index.count()?,
            "missing": transfer.missing.len(),
            "recall_at_1": recall,
        }))
    }

    /// Changes back to the model before, with everything that has been changed since. If it fails, all of that is noted still.
    fn back(&self) -> Result<Value, Failure> {
        let before = self.state.previous().ok_or_else(|| no_way_back(self.state))?;
        let mut transfer = self.transfer(&before);
        let changes = self.state.gate().changes();
        self.job.begin(changes);
        let carried = self.catch_up(&mut transfer)?;
        self.job.step(changes);
        self.switch(&mut transfer, &before)?;
        carried.into_iter().for_each(Changes::carried_over);
        Ok(json!({
            "model": before.label(),
            "before": self.now.label(),
            "items": before.index.count()?,
            "missing": transfer.missing.len(),
        }))
    }

    fn transfer<'b>(&'b self, to: &'b Backend) -> Transfer<'b> {
        Transfer {
            state: self.state,
            job: self.job,
            from: &self.now,
            to,
            pace: self.spec.images_per_second,
            allow_missing: self.spec.allow_missing,
            missing: BTreeSet::new(),
        }
    }

    /// Carries changes over until they are few enough to keep writers out for the rest. Returns them: they go back into the journal if what
    /// comes next fails.
    fn catch_up(&self, transfer: &mut Transfer<'_>) -> Result<Vec<Changes<'a>>, Failure> {
        let mut carried = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let changes = Changes::take(self.state).ok_or(TOO_MANY_CHANGES)?;
            let are_few = changes.ids().len() <= CHANGES_FEW;
            transfer.items(changes.ids())?;
            carried.push(changes);
            transfer.refuse_losses()?;
            if are_few {
                break;
            }
        }
        Ok(carried)
    }

    /// Recall of both models on the queries; an error if the next one is not good enough.
    fn judge(&self, next: &Backend) -> Result<Value, Failure> {
        let Some(queries) = &self.spec.queries else { return Ok(Value::Null) };
        let folder = self.state.options().import_dir.as_deref();
        let path = inside(folder.ok_or("queries need an import folder (server.import_dir)")?, queries)?;
        let list = SopList::read(&path, None).map_err(|error| Failure::of_file(&path, queries, &error))?;
        let (before, after) = (recall::at_1(&self.now, &list)?, recall::at_1(next, &list)?);
        let least = self.spec.min_recall_at_1.unwrap_or(before);
        if after < least {
            return Err(format!(
                "the next model finds {after:.4} of the queries first, and {least:.4} is required"
            )
            .into());
        }
        Ok(json!({ "before": before, "after": after }))
    }

    /// Keeps writers out for a moment, catches up with the last changes, and changes places. From here on changes are noted for going back.
    fn switch(&self, transfer: &mut Transfer<'_>, next: &Arc<Backend>) -> Result<(), Failure> {
        let closed = self.state.gate().close();
        // Writers wait, and would be refused if it took long: the searches share the processor for once.
        transfer.pace = None;
        let last = Changes::take(self.state).ok_or(TOO_MANY_CHANGES)?;
        transfer.items(last.ids())?;
        transfer.refuse_losses()?;
        next.index.flush()?;
        self.write_down(next)?;
        self.state.exchange(Arc::clone(next));
        self.state.gate().start_journal();
        last.carried_over();
        drop(closed);
        // Nothing that is asked for now can undo it.
        self.job.complete();
        tracing::info!(model = %next.label(), "the model has been exchanged");
        Ok(())
    }

    /// Writes down which model serves after the next start.
    fn write_down(&self, next: &Backend) -> Result<(), Failure> {
        let Some(active) = &next.active else { return Ok(()) };
        active.write(&self.host.stores).map_err(|error| {
            // It may be there all the same, if not for certain. The next start must not choose a model that has not taken over: its
            // catalogue would lack what is written from now on.
            let again = self.now.active.as_ref().map_or(Ok(()), |now| now.write(&self.host.stores));
            if let Err(error) = again {
                tracing::error!(%error, "active.json may name a model that does not serve: see to it before the next start");
            }
            Failure::inside("the change cannot be written down", error)
        })
    }

    fn load(&self) -> Result<Backend, Failure> {
        let (spec, host) = (self.spec, self.host);
        let folder = inside(&host.models, &spec.model)?;
        let unusable = |error: EngineError| Failure::inside("the model cannot be loaded", error);
        let mut engine = Engine::load(&folder, &host.engine).map_err(unusable)?;
        let fingerprint = engine.manifest().fingerprint();
        if fingerprint == self.now.manifest.fingerprint() {
            return Err("this is the model that serves already".into());
        }
        engine.warm_up(host.batch.max_batch).map_err(unusable)?;
        let store = host.stores.join(&fingerprint[..16]);
        fs_err::create_dir_all(&host.stores)
            .map_err(|error| Failure::inside("there is no place for the model's catalogue", error))?;
        let options = OpenOptions {
            create: true,
            tuning: host.tuning.clone(),
            ..OpenOptions::new(engine.manifest().embedding_dim, fingerprint)
        };
        let index = EmbeddedIndex::open(&store, options).map_err(|error| match error {
            IndexError::InUse { .. } => Failure::inside(
                "the model's catalogue is in use; if it is the model before, go back to it",
                error,
            ),
            error => error.into(),
        })?;
        let mut backend =
            Backend::new(Arc::new(engine), host.batch, self.state.metrics_shared(), Arc::new(index))
                .map_err(unusable)?;
        backend.active = Some(Active { model: folder, store });
        Ok(backend)
    }
}

/// Changes are noted as long as this lives, and after that only if they were told to be: not when an exchange has come to nothing, however
/// that happened.
struct Noting<'a> {
    gate: &'a Gate,
    is_kept: bool,
}

impl<'a> Noting<'a> {
    fn start(gate: &'a Gate) -> Self {
        gate.start_journal();
        Self { gate, is_kept: false }
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.gate.stop_journal();
        }
    }
}
