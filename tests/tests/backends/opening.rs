//! Models, dimensions, catalogues that are not there, keys.

use dfml_index::{IndexError, OpenOptions};
use dfml_qdrant::{QdrantIndex, QdrantOptions, Secret};
use dfml_tests::engine::{self, Engine};

use crate::{
    place::{DIM, MODEL, Place},
    truth::Dice,
};

#[test]
fn a_catalogue_belongs_to_one_model() {
    for place in Place::all() {
        let name = place.name;
        let options = OpenOptions::new(DIM, MODEL);
        let absent = place.open_with(&options).err();
        assert!(matches!(absent, Some(IndexError::NotFound { .. })), "{name}: {absent:?}");
        drop(place.open());
        assert!(place.open_with(&options).is_ok(), "{name}");
        let other = place.open_with(&OpenOptions::new(DIM, "0ther00000000000000")).err();
        let Some(IndexError::WrongModel { expected, found, .. }) = other else { panic!("{name}: {other:?}") };
        assert_eq!((expected.as_str(), found.as_str()), ("0ther00000000000000", MODEL), "{name}");
        let longer = place.open_with(&OpenOptions::new(DIM + 1, MODEL)).err();
        assert!(
            matches!(longer, Some(IndexError::WrongDim { expected: 25, found: 24, .. })),
            "{name}: {longer:?}"
        );
    }
}

#[test]
fn a_new_model_gets_a_collection_of_its_own_and_takes_over_at_once() {
    let engine = Engine::start();
    let qdrant = engine::options(&engine.url(), "shop");
    let make = |model: &str| {
        QdrantIndex::open(&qdrant, &OpenOptions { create: true, ..OpenOptions::new(DIM, model) })
            .expect("opens")
    };
    use dfml_index::VectorIndex as _;
    let old = make(MODEL);
    old.upsert(vec![Dice::new(1).item(1)]).expect("writes");
    let next = make("ffff0000");
    assert_eq!(next.count().expect("counts"), 0, "vectors of two models never meet");
    next.upsert((0..5).map(|number| Dice::new(2).item(number)).collect()).expect("writes");
    let current = || QdrantIndex::open_current(&qdrant).expect("opens");
    assert_eq!(current().model_fingerprint(), MODEL, "filling it changes nothing for others");
    next.activate().expect("takes over");
    assert_eq!((current().model_fingerprint(), current().count().expect("counts")), ("ffff0000", 5));
    assert_eq!(old.count().expect("counts"), 1, "whoever has the old one open goes on with it");
    old.activate().expect("and back");
    assert_eq!(current().model_fingerprint(), MODEL);
    next.remove().expect("removes");
    assert_eq!(current().count().expect("counts"), 1);
}

#[test]
fn two_that_make_the_same_catalogue_at_once_make_one() {
    let engine = Engine::start();
    let qdrant = engine::options(&engine.url(), "shop");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let options = OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) };
                QdrantIndex::open(&qdrant, &options).expect("opens");
            });
        }
    });
}

#[test]
fn a_key_is_needed_where_one_is_set_and_never_told() {
    let engine = Engine::start_with(&["--api-key", "s3cret-key"]);
    let open = |key: Option<&str>| {
        let qdrant =
            QdrantOptions { api_key: key.map(Secret::new), ..engine::options(&engine.url(), "shop") };
        QdrantIndex::open(&qdrant, &OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) })
    };
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    fs_err::write(file.path(), "s3cret-key\n").expect("writable");
    assert!(open(Some("s3cret-key")).is_ok());
    let from_file =
        QdrantOptions { api_key_file: Some(file.path().into()), ..engine::options(&engine.url(), "shop") };
    assert!(QdrantIndex::open(&from_file, &OpenOptions::new(DIM, MODEL)).is_ok());
    for key in [None, Some("wr0ng-key"), Some("br\noken-key")] {
        let error = open(key).err().expect("refused").to_string();
        assert!(!error.contains("0ng-key") && !error.contains("oken-key"), "{error}");
    }
}

#[test]
fn nobody_there_is_told_in_time() {
    let qdrant = QdrantOptions { timeout_ms: 1000, ..engine::options("http://127.0.0.1:1", "shop") };
    let start = std::time::Instant::now();
    let error = QdrantIndex::open(&qdrant, &OpenOptions::new(DIM, MODEL)).err();
    assert!(
        matches!(&error, Some(IndexError::Unavailable { place, .. }) if place.contains("127.0.0.1:1")),
        "{error:?}"
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn it_can_be_used_and_dropped_where_tasks_run() {
    use dfml_index::VectorIndex as _;
    let engine = Engine::start();
    let qdrant = engine::options(&engine.url(), "shop");
    let index = QdrantIndex::open(&qdrant, &OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) })
        .expect("opens");
    assert_eq!(index.count().expect("counts"), 0);
    drop(index);
}
