//! Long work: importing a list, looking for duplicates, exchanging the model. One job at a time, a bounded number waiting; each can be
//! watched, cancelled, and taken up again, after a restart of the server too.

mod import;
mod record;
mod registry;
mod routes;

pub(super) use import::inside;
pub(super) use record::{JobSpec, JobView};
pub(super) use registry::{Job, Jobs, Runner};
pub(super) use routes::{
    __path_cancel_job, __path_get_job, __path_import, __path_list_jobs, __path_resume_job, Accepted,
};
pub(super) use routes::{cancel_job, get_job, import, list_jobs, resume_job};
