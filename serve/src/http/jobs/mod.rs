//! Long work: importing a list, looking for duplicates, exchanging the model. One job at a time, a bounded number waiting; each can be
//! watched, cancelled, and taken up again, after a restart of the server too.

mod failure;
mod import;
mod job;
mod record;
mod registry;
mod routes;
mod run;

pub(super) use failure::Failure;
pub(super) use import::inside;
pub(super) use job::Job;
pub(super) use record::{JobSpec, JobView};
pub(super) use registry::Jobs;
pub(super) use routes::{
    __path_cancel_job, __path_get_job, __path_import, __path_list_jobs, __path_resume_job, Accepted,
};
pub(super) use routes::{cancel_job, get_job, import, list_jobs, resume_job};
pub(super) use run::Runner;
