//! `dfml calibrate`: what a model's similarities mean.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use dfml_index::{EmbeddedIndex, OpenOptions, SearchRequest, VectorIndex, sop::SopList};
use dfml_models::calibration::{
    Calibration, CalibrationMethod, Judged, ReliabilityBin, fit_isotonic, reliability,
};
use dfml_serve::{
    bulk::{BulkOptions, embed_files},
    engine::Engine,
    settings::Settings,
};
use serde_json::json;

use super::{Done, interrupt::Interrupt, options::EngineArgs, progress::Progress};

/// Hits of each query that are judged: what a page of results shows.
const HITS: usize = 12;

/// Fit the probability that a hit shows the product of the query, and record it in the model's manifest.
///
/// Every query picture is searched in the catalogue as the server would; each of its first hits is right or wrong. Half of the
/// products of the queries fit the function, the other half judge it: the expected calibration error is that of products that neither the
/// fit nor, if the lists are chosen so, the training has seen.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml calibrate --model model --catalogue store --queries validation.txt
  dfml calibrate --model model --catalogue store --queries query_views.txt --queries query_icons.txt --json calibration.json --svg reliability.svg")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Store directory with the catalogue's vectors.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// List of query pictures: not in the catalogue, of products that are, and that the model was not trained on.
    #[arg(long, value_name = "LIST", required = true)]
    queries: Vec<PathBuf>,
    /// Folder that the lists' paths start from; each list's own folder if not given.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also write the figures and the reliability diagram's numbers to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the reliability diagram.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only measure; leave the manifest as it is.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The judged hits of both halves.
#[derive(Default)]
struct Halves {
    fit: Vec<Judged>,
    judge: Vec<Judged>,
    products: [BTreeSet<u64>; 2],
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let (engine, bulk) = args.engine.load_bulk(&args.model, &mut settings)?;
    let manifest = engine.manifest();
    let options = OpenOptions::new(manifest.embedding_dim, manifest.fingerprint());
    let index = EmbeddedIndex::open(&args.catalogue, options)
        .with_context(|| format!("store {}", args.catalogue.display()))?;
    let interrupt = Interrupt::listen()?;
    let mut halves = Halves::default();
    for path in &args.queries {
        let list = SopList::read(path, args.root.as_deref())?;
        search(&engine, &index, path, &list, &bulk, &interrupt, &mut halves)?;
        if interrupt.requested() {
            return Ok(Done::Interrupted);
        }
    }
    let knots = fit_isotonic(&halves.fit)?;
    let (bins, error) = reliability(&knots, &halves.judge);
    let names: Vec<_> =
        args.queries.iter().map(|path| path.file_stem().unwrap_or_default().to_string_lossy()).collect();
    let calibration = Calibration {
        method: CalibrationMethod::Isotonic,
        dataset: names.join(", "),
        fitted_hits: halves.fit.len(),
        judged_hits: halves.judge.len(),
        expected_calibration_error: error,
        knots,
    };
    report(&calibration, &halves, &bins);
    if let Some(path) = &args.json {
        let mut text =
            serde_json::to_string_pretty(&json!({ "calibration": calibration, "reliability": bins }))?;
        text.push('\n');
        fs_err::write(path, text)?;
    }
    if let Some(path) = &args.svg {
        fs_err::write(path, diagram(&bins, error))?;
    }
    if !args.dry_run {
        let mut manifest = manifest.clone();
        manifest.calibration = Some(calibration);
        manifest.save(&args.model)?;
    }
    Ok(Done::Complete)
}

/// Searches with every picture of a list and judges its hits.
fn search(
    engine: &Engine,
    index: &dyn VectorIndex,
    path: &Path,
    list: &SopList,
    bulk: &BulkOptions,
    interrupt: &Interrupt,
    halves: &mut Halves,
) -> anyhow::Result<()> {
    let files: Vec<PathBuf> = list.entries.iter().map(|entry| list.root.join(&entry.path)).collect();
    let mut progress = Progress::new("searching", files.len());
    let mut failed = None;
    embed_files(engine, &files, bulk, |position, result| {
        progress.step();
        let entry = &list.entries[position];
        match result {
            Ok(embedding) => {
                let request =
                    SearchRequest { k: HITS, group_by_product: true, ..SearchRequest::new(embedding.vector) };
                match index.search(&request) {
                    Ok(hits) => halves.add(
                        entry.class_id,
                        hits.iter().map(|hit| Judged {
                            similarity: f64::from(hit.score),
                            is_same: hit.product_id == entry.class_id.to_string(),
                        }),
                    ),
                    Err(error) => failed = Some(error),
                }
            }
            Err(error) => progress.line(&format!("warning: {}:{}: {error}", path.display(), entry.line)),
        }
        if failed.is_some() || interrupt.requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    progress.finish();
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

impl Halves {
    fn add(&mut self, class: u64, hits: impl Iterator<Item = Judged>) {
        let half = usize::from(judges(class));
        self.products[half].insert(class);
        if half == 1 { self.judge.extend(hits) } else { self.fit.extend(hits) }
    }
}

/// Which half a product belongs to: the same one on every run, and unrelated to its number's parity or size (Fibonacci hashing).
fn judges(class: u64) -> bool {
    class.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1
}

fn report(calibration: &Calibration, halves: &Halves, bins: &[ReliabilityBin]) {
    println!(
        "fitted on {} hits of {} products, judged on {} hits of {} others: expected calibration error {:.4}",
        calibration.fitted_hits,
        halves.products[0].len(),
        calibration.judged_hits,
        halves.products[1].len(),
        calibration.expected_calibration_error
    );
    println!("predicted  observed      hits");
    for bin in bins.iter().filter(|bin| bin.hits > 0) {
        println!("   {:6.3}    {:6.3}  {:8}", bin.predicted, bin.observed, bin.hits);
    }
    for probability in [0.5, 0.8, 0.9, 0.95, 0.99] {
        if let Some(similarity) = calibration.similarity(probability) {
            println!("probability {probability:.2} from similarity {similarity:.3}");
        }
    }
}

/// The reliability diagram: a perfect calibration lies on the diagonal, and the area of a point is the number of its hits.
fn diagram(bins: &[ReliabilityBin], error: f64) -> String {
    const SIDE: f64 = 360.0;
    const EDGE: f64 = 56.0;
    let (x, y) = (|share: f64| EDGE + share * SIDE, |share: f64| EDGE + (1.0 - share) * SIDE);
    let whole = SIDE + 2.0 * EDGE;
    let most = bins.iter().map(|bin| bin.hits).max().unwrap_or(1).max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {whole}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{whole}\" height=\"{whole}\" fill=\"#fff\"/>\n\
         <path d=\"M{} {}H{}V{}\" fill=\"none\" stroke=\"#888\"/>\n<path d=\"M{} {}L{} {}\" stroke=\"#bbb\" stroke-dasharray=\"5 4\"/>\n",
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0),
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0)
    );
    for tenth in [0, 2, 4, 6, 8, 10] {
        let share = f64::from(tenth) / 10.0;
        // Writing into a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{share:.1}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{share:.1}</text>",
            x(share),
            y(0.0) + 18.0,
            x(0.0) - 8.0,
            y(share) + 4.0
        );
    }
    for bin in bins.iter().filter(|bin| bin.hits > 0) {
        let radius = 3.0 + 9.0 * (bin.hits as f64 / most).sqrt();
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"#4f46e5\" fill-opacity=\".75\"><title>{} hits</title></circle>",
            x(bin.predicted),
            y(bin.observed),
            bin.hits
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{0}\" y=\"{1}\" text-anchor=\"middle\">predicted probability</text>\n\
         <text transform=\"translate(16 {0}) rotate(-90)\" text-anchor=\"middle\">observed share of right hits</text>\n\
         <text x=\"{0}\" y=\"28\" text-anchor=\"middle\" font-size=\"15\">Reliability on held-out products, ECE {error:.4}</text>\n</svg>",
        whole / 2.0,
        whole - 12.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_get_about_half_of_the_products() {
        let judging = (0..1000).filter(|class| judges(*class)).count();
        assert!((450..=550).contains(&judging), "{judging}");
    }

    #[test]
    fn a_product_is_in_one_half_only() {
        let mut halves = Halves::default();
        for class in 0..50 {
            for _ in 0..3 {
                halves.add(class, std::iter::once(Judged { similarity: 0.5, is_same: true }));
            }
        }
        assert!(halves.products[0].is_disjoint(&halves.products[1]));
        assert_eq!(halves.fit.len() + halves.judge.len(), 150);
    }

    #[test]
    fn the_diagram_shows_its_points() {
        let bins = [ReliabilityBin { hits: 9, predicted: 0.2, observed: 0.25 }, ReliabilityBin::default()];
        let svg = diagram(&bins, 0.05);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("ECE 0.0500") && svg.contains("9 hits"), "{svg}");
    }
}
