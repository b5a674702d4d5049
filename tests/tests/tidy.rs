//! What a reviewer would otherwise say about every change: sizes, folders, markers.

use std::path::{Path, PathBuf};
use std::process::Command;

use dfml_tests::binaries::workspace;

const LINES_MAX: usize = 600;

/// Files that are in the repository, or would be if they were added.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .current_dir(workspace())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output();
    let names = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).expect("file names are UTF-8")
        }
        // A checkout without git, such as an unpacked archive.
        _ => return walk(&workspace()),
    };
    let files = names.split('\0').filter(|name| !name.is_empty()).map(|name| workspace().join(name));
    files.filter(|file| file.is_file()).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            files.extend(walk(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files
}

/// Text of the files with one of these extensions.
fn sources(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let has = |file: &PathBuf| file.extension().is_some_and(|e| extensions.contains(&&*e.to_string_lossy()));
    let found: Vec<_> = files()
        .into_iter()
        .filter(has)
        .map(|file| {
            let text = fs_err::read_to_string(&file).expect("source files are UTF-8");
            (file, text)
        })
        .collect();
    assert!(!found.is_empty(), "no files with {extensions:?}");
    found
}

#[test]
fn no_file_is_too_long() {
    for (file, text) in sources(&["rs", "js", "css", "html", "py", "sh"]) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: split it by subject", file.display());
    }
}

#[test]
fn the_folders_are_those_of_the_architecture() {
    let map = fs_err::read_to_string(workspace().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for folder in ["models", "train", "index", "serve", "configs", "tests", "docker", "xtask", "docs/results"]
    {
        assert!(workspace().join(folder).is_dir(), "{folder}/ is missing");
        assert!(map.contains(&format!("`{folder}/`")), "{folder}/ is not in ARCHITECTURE.md");
    }
}

#[test]
fn unfinished_matters_are_issues() {
    // In two halves, so that this file does not find itself.
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (file, text) in sources(&["rs", "js", "css", "html", "toml", "sh", "yml", "yaml"]) {
        for (number, line) in text.lines().enumerate() {
            for marker in markers {
                let words = line.split(|c: char| !c.is_ascii_alphanumeric());
                let is_marked = words.clone().any(|word| word == marker);
                assert!(
                    !is_marked || line.contains(&format!("{marker}(#")),
                    "{}:{}: name the issue, as {marker}(#123)",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn modules_say_what_they_are_about() {
    for (file, text) in sources(&["rs"]) {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{}: begin with a `//!` comment", file.display());
    }
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = fs_err::read_to_string(workspace().join("README.md")).expect("README.md");
    for command in ["cargo xtask demo", "cargo xtask test"] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
}

#[test]
fn no_test_is_ignored_without_a_reason() {
    // With a reason it may be: a test that another one runs as a program of its own.
    let attribute = concat!("#[", "ignore]");
    for (file, text) in sources(&["rs"]) {
        let is_ignored = text.lines().any(|line| line.trim_start().starts_with(attribute));
        assert!(!is_ignored, "{} ignores a test: make it run, or say why", file.display());
    }
}
