//! `dfml bench index`: the index against hnswlib, faiss and usearch.

use std::path::PathBuf;

use anyhow::bail;
use dfml_serve::bench_index::{self, Data, PEERS, Plan};
use serde_json::json;

use super::Done;

/// The index against other libraries: speed at equal recall, one thread, the same vectors and the same truth.
///
/// The libraries run in Python; `cargo xtask setup --with peers` installs them. Without --vectors, made-up vectors are used that
/// resemble embeddings of a catalogue.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml bench index --python ~/.cache/dfml/peers/bin/python --count 60000 --json bench.json --plot bench.svg
  dfml bench index --vectors vectors.npy --queries queries.npy --against hnswlib,faiss
  dfml bench index --grow 10000,100000 --plot growth.svg")]
pub(super) struct Args {
    /// Vectors to search, a NumPy array f32 [n, dim]; with --queries.
    #[arg(long, value_name = "FILE", requires = "queries")]
    vectors: Option<PathBuf>,
    /// Vectors to search with, a NumPy array f32 [n, dim].
    #[arg(long, value_name = "FILE", requires = "vectors")]
    queries: Option<PathBuf>,
    /// Number of made-up vectors.
    #[arg(long, value_name = "N", default_value_t = 60_000, conflicts_with = "vectors")]
    count: usize,
    /// Number of made-up queries.
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "vectors")]
    query_count: usize,
    /// Length of made-up vectors.
    #[arg(long, value_name = "N", default_value_t = 384, conflicts_with = "vectors")]
    dim: usize,
    /// Libraries to compare with; an empty text for none.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "hnswlib,faiss,faiss-flat,usearch"
    )]
    against: Vec<String>,
    /// Neighbours per query.
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: usize,
    /// Links per node (M), for all.
    #[arg(long, value_name = "N", default_value_t = 16)]
    links: usize,
    /// Effort of building (ef_construction), for all.
    #[arg(long, value_name = "N", default_value_t = 128)]
    build_effort: usize,
    /// Rounds; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Instead: only this program, at these numbers of made-up vectors.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', conflicts_with = "vectors")]
    grow: Vec<usize>,
    /// Python with the libraries.
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// Also write the figures to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw them (SVG).
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Done> {
    let against: Vec<String> = args.against.iter().filter(|name| !name.is_empty()).cloned().collect();
    if let Some(unknown) = against.iter().find(|name| !PEERS.contains(&name.as_str())) {
        bail!("--against {unknown}: known are {}", PEERS.join(", "));
    }
    let plan = Plan {
        k: args.k.max(1),
        links: args.links,
        build_effort: args.build_effort,
        rounds: args.rounds.max(1),
        against,
        python: args.python.clone(),
    };
    let note = |what: &str| eprintln!("bench index: {what}");
    let report = if args.grow.is_empty() {
        let data = match (&args.vectors, &args.queries) {
            (Some(vectors), Some(queries)) => Data::read(vectors, queries)?,
            _ => Data::synthetic(args.count.max(1), args.query_count.max(1), args.dim.max(1)),
        };
        let bench = bench_index::run(&data, &plan, note)?;
        print!("{}", bench_index::table(&bench));
        if let Some(path) = &args.plot {
            bench_index::recall_plot(&bench, path)?;
        }
        json!(bench)
    } else {
        let growth = bench_index::grow(&args.grow, args.dim.max(1), args.query_count.max(1), &plan, note)?;
        println!("{}", serde_json::to_string_pretty(&growth)?);
        if let Some(path) = &args.plot {
            bench_index::growth_plot(&growth, path)?;
        }
        json!({ "growth": growth })
    };
    if let Some(path) = &args.json {
        fs_err::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(Done::Complete)
}
