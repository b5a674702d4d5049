//! Bulk embedding takes as much memory for many images as for few. A test binary of its own, because it looks at the memory
//! of its process.
#![cfg(target_os = "linux")]

mod support;

use std::{ops::ControlFlow, path::PathBuf};

use dfml_serve::bulk::{BulkOptions, embed_files};
use support::{load, write_jpeg, write_model};

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kilobytes = line.split_whitespace().nth(1).expect("a number");
    1024 * kilobytes.parse::<u64>().expect("a number")
}

#[test]
fn memory_after_twenty_thousand_images_is_that_after_two_thousand() {
    let dir = tempfile::tempdir().expect("folder");
    write_model(&dir.path().join("model"), 1, None);
    let engine = load(&dir.path().join("model"), 2);
    let files: Vec<PathBuf> = (0..50).map(|number| dir.path().join(format!("{number}.jpg"))).collect();
    for (number, file) in files.iter().enumerate() {
        write_jpeg(file, number as u32);
    }
    let embed = |images: usize| {
        let paths: Vec<&PathBuf> = files.iter().cycle().take(images).collect();
        let options = BulkOptions { workers: Some(2), ..BulkOptions::default() };
        let mut embedded = 0;
        embed_files(&engine, &paths, &options, |_, result| {
            embedded += usize::from(result.is_ok());
            ControlFlow::Continue(())
        })
        .expect("the network computes");
        assert_eq!(embedded, images);
        resident()
    };
    let few = embed(2_000);
    let many = embed(20_000);
    assert!(many < few + few / 10, "{few} bytes after 2,000 images, {many} after 20,000 more");
}
