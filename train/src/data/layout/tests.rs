//! Every layout from a folder made here, in the form of the published one.

use std::path::Path;

use super::*;

fn config(layout: Layout) -> DataConfig {
    DataConfig { layout, ..DataConfig::default() }
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, text).unwrap();
}

/// Files whose contents nobody looks at.
fn touch(root: &Path, names: &[&str]) {
    names.iter().for_each(|name| write(root, name, ""));
}

fn error(layout: Layout, root: &Path) -> String {
    read_splits(&config(layout), root, None).unwrap_err().to_string()
}

#[test]
fn cub_is_split_at_class_100() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("CUB_200_2011");
    touch(&root, &["images/001.A/a.jpg", "images/001.A/b.jpg", "images/100.B/c.jpg", "images/101.C/d.jpg"]);
    write(&root, "images.txt", "1 001.A/a.jpg\n2 001.A/b.jpg\n3 100.B/c.jpg\n4 101.C/d.jpg\n");
    write(&root, "image_class_labels.txt", "1 1\n2 1\n3 100\n4 101\n");
    let splits = read_splits(&config(Layout::Cub), folder.path(), None).unwrap();
    assert_eq!(splits.train.labels, [0, 0, 1]);
    assert_eq!(splits.train.images[2], root.join("images/100.B/c.jpg"));
    assert_eq!(splits.test.gallery.images, [root.join("images/101.C/d.jpg")]);

    let strict = DataConfig { strict_counts: true, ..config(Layout::Cub) };
    let text = read_splits(&strict, folder.path(), None).unwrap_err().to_string();
    assert!(
        text.contains("train: found 3 images of 2 classes, expected 5864 images of 100 classes"),
        "{text}"
    );

    write(&root, "image_class_labels.txt", "1 1\n2 1\n3 100\n4 x\n");
    assert!(error(Layout::Cub, &root).contains("line 4: class \"x\" is not a number"));
    write(&root, "image_class_labels.txt", "1 1\n2 1\n3 100\n");
    assert!(error(Layout::Cub, &root).contains("image 4"));
    write(&root, "images.txt", "1 ../../../etc/passwd\n");
    assert!(error(Layout::Cub, &root).contains("line 1: path \"../../../etc/passwd\" leads out of"));
    assert!(error(Layout::Cub, Path::new("/nowhere")).contains("none of these is there: images.txt"));
}

/// The annotations that SciPy wrote (tests/data/cars).
fn annotations() -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cars/cars_annos.mat")).unwrap()
}

#[test]
fn cars_are_read_from_the_matlab_file_and_split_at_class_98() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("cars_annos.mat"), annotations()).unwrap();
    let text = error(Layout::Cars, folder.path());
    assert!(
        text.contains("12 of 12 image files are missing") && text.contains("car_ims/000001.jpg"),
        "{text}"
    );
    let names: Vec<String> = (1..=24).map(|n| format!("car_ims/{n:06}.jpg")).collect();
    names.iter().for_each(|name| touch(folder.path(), &[name]));
    let splits = read_splits(&config(Layout::Cars), folder.path(), None).unwrap();
    // Classes 1, 2, 50, 98 and 99, 100, 150, 196, three images each.
    assert_eq!(splits.train.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    assert_eq!(splits.test.gallery.labels, splits.train.labels);
    assert_eq!(splits.test.gallery.images[0], folder.path().join("car_ims/000013.jpg"));
}

#[test]
fn damaged_matlab_files_are_refused_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cars_annos.mat");
    let whole = annotations();
    for cut in (0..whole.len()).step_by(7) {
        fs_err::write(&file, &whole[..cut]).unwrap();
        let text = error(Layout::Cars, folder.path());
        assert!(text.contains("cars_annos.mat: "), "cut at {cut}: {text}");
    }
    for place in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs_err::write(&file, damaged).unwrap();
        // Whatever comes of it (a byte of the free text in the header does not matter): an answer, not a panic.
        let _ = read_splits(&config(Layout::Cars), folder.path(), None);
    }
}

#[test]
fn in_shop_has_queries_in_the_numbers_of_its_gallery() {
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), &["img/a.jpg", "img/b.jpg", "img/c.jpg", "img/d.jpg", "img/e.jpg"]);
    let list = "5\nimage_name item_id evaluation_status\nimg/a.jpg id_1 train\nimg/b.jpg id_7 query\n\
                img/c.jpg id_9 gallery\nimg/d.jpg id_7 gallery\nimg/e.jpg id_1 train\n";
    write(folder.path(), "Eval/list_eval_partition.txt", list);
    let splits = read_splits(&config(Layout::InShop), folder.path(), None).unwrap();
    assert_eq!(splits.train.labels, [0, 0]);
    assert_eq!(splits.test.gallery.labels, [1, 0]);
    assert_eq!(splits.test.queries.unwrap().labels, [0]);
    write(folder.path(), "Eval/list_eval_partition.txt", &list.replace("5\n", "6\n"));
    assert!(error(Layout::InShop, folder.path()).contains("6 images are announced, 5 are listed"));
    write(folder.path(), "Eval/list_eval_partition.txt", &list.replace("query", "asked"));
    assert!(error(Layout::InShop, folder.path()).contains("line 4: \"asked\" is none of"));
}

#[test]
fn imagenet_has_the_same_classes_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), &["train/n01/a.JPEG", "train/n02/b.JPEG", "val/n02/c.JPEG"]);
    let splits = read_splits(&config(Layout::ImageNet), folder.path(), None).unwrap();
    assert_eq!((splits.train.labels, splits.test.gallery.labels), (vec![0, 1], vec![1]));
    assert!(splits.test.has_training_classes);
    touch(folder.path(), &["val/n03/d.JPEG"]);
    assert!(
        error(Layout::ImageNet, folder.path()).contains("class \"n03\" is not among the training classes")
    );
}

#[test]
fn folders_are_split_by_name_and_an_empty_class_is_named() {
    let folder = tempfile::tempdir().unwrap();
    touch(
        folder.path(),
        &["b/2.png", "b/1.jpg", "b/notes.txt", "a/1.jpg", "c/1.webp", "d/1.JPG", ".hidden/1.jpg"],
    );
    let splits = read_splits(&config(Layout::Folders), folder.path(), None).unwrap();
    let names = |set: &Dataset| set.listing(folder.path());
    assert_eq!(names(&splits.train), "a/1.jpg 0\nb/1.jpg 1\nb/2.png 1\n");
    assert_eq!(names(&splits.test.gallery), "c/1.webp 0\nd/1.JPG 1\n");
    fs_err::create_dir(folder.path().join("empty")).unwrap();
    assert!(error(Layout::Folders, folder.path()).contains("class \"empty\" has no images"));
}

#[test]
fn sop_lists_missing_files_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let header = "image_id class_id super_class_id path\n";
    write(folder.path(), "Ebay_train.txt", &format!("{header}1 5 1 x/a.JPG\n2 9 1 x/b.JPG\n"));
    write(folder.path(), "Ebay_test.txt", &format!("{header}1 3 1 x/c.JPG\n"));
    touch(folder.path(), &["x/a.JPG", "x/c.JPG"]);
    let text = error(Layout::Sop, folder.path());
    assert!(text.contains("1 of 2 image files are missing:") && text.contains("x/b.JPG"), "{text}");
    touch(folder.path(), &["x/b.JPG"]);
    assert_eq!(read_splits(&config(Layout::Sop), folder.path(), None).unwrap().train.labels, [0, 1]);
}
