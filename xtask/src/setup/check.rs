//! `cargo xtask setup --check`: a table of what is there.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::components::{Component, Way};
use super::install::{State, state};
use super::{libtorch_cuda, tools, unpack};

/// One line of the table.
struct Row {
    name: &'static str,
    version: String,
    state: String,
    bytes: Option<u64>,
    place: String,
    /// Asked for, and not there.
    is_lacking: bool,
}

/// Prints the table; an error if something of `wanted` is lacking.
pub(crate) fn print(cache: &Path, wanted: &[Component]) -> Result<()> {
    let mut rows = Vec::new();
    for &component in Component::value_variants() {
        rows.push(row(cache, component, wanted.contains(&component))?);
    }
    rows.extend(tool_rows(wanted));
    println!("{:<12} {:<9} {:>9}  {:<34} state", "component", "version", "size", "place");
    for row in &rows {
        let size = row.bytes.map_or_else(String::new, |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
        println!("{:<12} {:<9} {size:>9}  {:<34} {}", row.name, row.version, row.place, row.state);
    }
    println!("cache folder: {}", cache.display());
    let lacking: Vec<&str> = rows.iter().filter(|row| row.is_lacking).map(|row| row.name).collect();
    if !lacking.is_empty() {
        bail!("missing: {}", lacking.join(", "));
    }
    Ok(())
}

fn row(cache: &Path, component: Component, is_wanted: bool) -> Result<Row> {
    let name = component.name();
    let other = |is_there: bool, missing: &str, place: String| Row {
        name,
        version: "any".to_owned(),
        state: if is_there { "ready" } else { missing }.to_owned(),
        bytes: None,
        place,
        is_lacking: is_wanted && !is_there,
    };
    let recipe = match component.way()? {
        Way::Archives(recipe) => recipe,
        Way::System => {
            let found = ["chromium", "chromium-browser", "google-chrome"]
                .iter()
                .find_map(|name| crate::command::find(name));
            let place = found.map_or_else(String::new, |path| path.display().to_string());
            return Ok(other(tools::has_chromium(), "missing: chromium and chromedriver", place));
        }
        Way::Program(program) => {
            let found = program.find(cache);
            let place = found.as_ref().map_or_else(String::new, |path| path.display().to_string());
            return Ok(other(found.is_some(), "missing", place));
        }
        Way::Python(environment) => {
            return Ok(other(environment.is_ready(cache), "missing", environment.folder.to_owned()));
        }
        Way::LibtorchCuda => {
            return Ok(other(libtorch_cuda::is_ready(cache), "missing", libtorch_cuda::FOLDER.to_owned()));
        }
        Way::None => return Ok(other(false, "not made for this machine", String::new())),
    };
    let state = state(cache, &recipe);
    let folder = recipe.path(cache);
    Ok(Row {
        name,
        version: recipe.version.to_owned(),
        bytes: folder.exists().then(|| size(&folder)).transpose()?,
        place: PathBuf::from(recipe.folder).display().to_string(),
        is_lacking: is_wanted && state != State::Ready,
        state: match state {
            State::Ready => "ready".to_owned(),
            State::Missing => "missing".to_owned(),
            State::Unsure(why) => format!("not usable: {why}"),
        },
    })
}

fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in unpack::files_below(folder)? {
        bytes += fs_err::symlink_metadata(folder.join(file))?.len();
    }
    Ok(bytes)
}

/// The tools that set-up and builds use.
fn tool_rows(wanted: &[Component]) -> impl Iterator<Item = Row> {
    let needs_cxx = wanted.iter().any(|component| component.builds_training());
    let tools = [
        ("pip", tools::has_pip(), false, "python3 -m pip fetches wheels"),
        ("apt-get", tools::has_apt(), false, "fetches the furniture"),
        ("c++", tools::has_cxx(), needs_cxx, "builds dfml-train"),
    ];
    tools.into_iter().map(|(name, is_there, is_needed, use_)| Row {
        name,
        version: "any".to_owned(),
        state: if is_there { "ready" } else { "missing" }.to_owned(),
        bytes: None,
        place: use_.to_owned(),
        is_lacking: is_needed && !is_there,
    })
}
