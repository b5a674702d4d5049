//! Why a job or a part of one failed: what those who look at the job are told, and what only the log says.
//!
//! Whoever may read the catalogue may read its jobs. Where files lie on the server and where engines listen is not for them.

use std::{fmt::Display, path::Path};

use dfml_index::IndexError;

use crate::{
    bulk::{BulkError, IngestError, ItemError, ItemErrorKind},
    engine::EngineError,
    http::{ApiError, Problem},
};

/// Why a job or a part of one failed.
#[derive(Debug)]
pub(in crate::http) struct Failure {
    /// A sentence for the one who asked.
    pub(super) told: String,
    /// What the log says instead, where that is more.
    pub(super) detail: Option<String>,
}

impl Failure {
    /// Something broke inside: `what` is told, the reason is for the log.
    pub(in crate::http) fn inside(what: &str, reason: impl Display) -> Self {
        Self { told: format!("{what}; the server's log has the details"), detail: Some(reason.to_string()) }
    }

    /// Something is wrong with a file, which is told by the name that it was asked for. The error names no other file.
    pub(in crate::http) fn of_file(path: &Path, name: &str, error: &dyn Display) -> Self {
        error.to_string().replace(&path.display().to_string(), name).into()
    }

    /// What the log should say.
    pub(super) fn full(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.told)
    }
}

impl From<String> for Failure {
    fn from(told: String) -> Self {
        Self { told, detail: None }
    }
}

impl From<&str> for Failure {
    fn from(told: &str) -> Self {
        told.to_owned().into()
    }
}

/// In the words of [`Problem`], which tells clients no more than they should know.
impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let (told, full) = (Problem::from(&error).detail().to_owned(), error.to_string());
        Self { detail: (full != told).then_some(full), told }
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<BulkError> for Failure {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::Engine(error) => error.into(),
            BulkError::Item(error) => (&error).into(),
            BulkError::Thread(_) => ApiError::Internal(error.to_string()).into(),
        }
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Index(error) => error.into(),
            IngestError::Bulk(error) => error.into(),
        }
    }
}

/// Says what is wrong with a picture, not where it is.
impl From<&ItemError> for Failure {
    fn from(error: &ItemError) -> Self {
        let told = match &error.kind {
            ItemErrorKind::Read(reason) => format!("it cannot be read: {}", reason.kind()),
            ItemErrorKind::Decode(reason) => reason.to_string(),
        };
        Self { told, detail: Some(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::*;

    fn assert_hidden(failure: &Failure, told: &str) {
        assert!(failure.told.contains(told), "{failure:?}");
        assert!(!failure.told.contains("secret"), "{failure:?}");
        assert!(failure.full().contains("secret"), "the log has it: {failure:?}");
    }

    #[test]
    fn places_on_the_server_are_for_the_log_alone() {
        let path = PathBuf::from("/srv/secret/shop");
        let damaged = IndexError::Damaged { path: path.clone(), detail: "a page".to_owned() };
        assert_hidden(&damaged.into(), "the server failed");
        let engine =
            IndexError::Unavailable { place: "http://secret:6334".to_owned(), detail: "no".to_owned() };
        assert_hidden(&engine.into(), "does not answer");
        let model = EngineError::NoReference { model_dir: path.clone() };
        assert_hidden(&model.into(), "the model failed");
        assert_hidden(&ApiError::Internal("/srv/secret".to_owned()).into(), "the server failed");
        let unreadable = fs_err::read("/srv/secret/shop").expect_err("there is no such file");
        let item = ItemError { path: path.clone(), kind: ItemErrorKind::Read(unreadable) };
        assert_hidden(&Failure::from(&item), "it cannot be read: entity not found");
        assert_hidden(&BulkError::Item(item).into(), "it cannot be read");
        let full = io::Error::other("/srv/secret is full");
        assert_hidden(&Failure::inside("the change cannot be written down", full), "the change cannot be");
    }

    #[test]
    fn a_file_is_told_by_the_name_that_it_was_asked_for() {
        let path = Path::new("/srv/import/lists/a.txt");
        let failure = Failure::of_file(path, "lists/a.txt", &format!("{}:3: wrong", path.display()));
        assert_eq!(failure.told, "lists/a.txt:3: wrong");
    }

    #[test]
    fn what_the_asker_did_is_told_in_full() {
        let refused = IndexError::InvalidRequest { reason: "its vector is zero".to_owned() };
        let failure = Failure::from(refused);
        assert_eq!((failure.told.as_str(), &failure.detail), ("search request: its vector is zero", &None));
    }
}
