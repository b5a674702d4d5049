//! Plots of what was measured, as SVG.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use plotters::prelude::*;

use super::report::{Growth, IndexBench};

const SIZE: (u32, u32) = (900, 560);

/// A plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PlotError {
    /// The picture's file.
    path: PathBuf,
    /// What the library said.
    reason: String,
}

/// A curve with its name.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Queries per second over recall, a curve for each contender.
///
/// # Errors
/// [`PlotError`].
pub fn recall_plot(bench: &IndexBench, path: &Path) -> Result<(), PlotError> {
    let curves: Vec<Curve> = bench
        .contenders
        .iter()
        .map(|contender| {
            let points = contender.points.iter().filter(|point| point.recall >= 0.8);
            Curve {
                name: contender.name.clone(),
                points: points.map(|point| (point.recall, point.qps)).collect(),
            }
        })
        .collect();
    let title = format!("{} (k = {})", bench.data, bench.k);
    let axes = ("recall", "queries per second of one core");
    draw(path, &title, axes, 0.8..1.002, &curves, false)
}

/// Time per search over the number of vectors.
///
/// # Errors
/// [`PlotError`].
pub fn growth_plot(growth: &[Growth], path: &Path) -> Result<(), PlotError> {
    let curve = |name: &str, value: &dyn Fn(&Growth) -> Option<f64>| Curve {
        name: name.into(),
        points: growth.iter().filter_map(|size| Some((size.vectors as f64, value(size)?))).collect(),
    };
    let curves = [
        curve("graph, ms at recall 0.99", &|size| size.graph_ms),
        curve("exact, ms", &|size| Some(size.exact_ms)),
        curve("memory, KiB per vector", &|size| Some(size.memory_bytes_per_vector / 1024.0)),
    ];
    let range = padded(growth.iter().map(|size| size.vectors as f64));
    draw(path, "growth", ("vectors", ""), range, &curves, true)
}

/// A range for a logarithmic axis that holds every value with some room: positive and finite whatever the values are,
/// as the library looks for the ticks of an infinite range for ever.
fn padded(values: impl Iterator<Item = f64>) -> Range<f64> {
    let drawable = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) =
        drawable.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { low * 0.8..high * 1.25 } else { 1.0..10.0 }
}

fn draw(
    path: &Path,
    title: &str,
    (x_name, y_name): (&str, &str),
    x: Range<f64>,
    curves: &[Curve],
    log_x: bool,
) -> Result<(), PlotError> {
    let y = padded(curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1)));
    // Speed falls with recall, time grows with size: the corner that the curves leave free.
    let legend = if log_x { SeriesLabelPosition::UpperLeft } else { SeriesLabelPosition::LowerLeft };
    let failed = |reason: String| PlotError { path: path.to_path_buf(), reason };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
    let mut builder = ChartBuilder::on(&area);
    builder.caption(title, ("sans-serif", 18)).margin(14).x_label_area_size(42).y_label_area_size(70);
    // The library has a type for each kind of axis.
    macro_rules! chart {
        ($x:expr) => {{
            let mut chart =
                builder.build_cartesian_2d($x, y.log_scale()).map_err(|error| failed(error.to_string()))?;
            chart
                .configure_mesh()
                .x_desc(x_name)
                .y_desc(y_name)
                .light_line_style(BLACK.mix(0.04))
                .draw()
                .map_err(|error| failed(error.to_string()))?;
            for (index, curve) in curves.iter().enumerate() {
                let colour = Palette99::pick(index).to_rgba();
                let line =
                    LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)).point_size(3);
                chart
                    .draw_series(line)
                    .map_err(|error| failed(error.to_string()))?
                    .label(&curve.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(legend)
                .background_style(WHITE.mix(0.9))
                .border_style(BLACK.mix(0.3))
                .draw()
                .map_err(|error| failed(error.to_string()))?;
        }};
    }
    if log_x {
        chart!(x.log_scale())
    } else {
        chart!(x)
    }
    area.present().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_curves() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("growth.svg");
        let size = |vectors: usize, graph_ms: f64| Growth {
            vectors,
            graph_ms: Some(graph_ms),
            exact_ms: vectors as f64 / 1e4,
            memory_bytes_per_vector: 2000.0,
            load_seconds: 1.0,
            build_cpu_seconds: 1.0,
        };
        growth_plot(&[size(10_000, 0.1), size(100_000, 0.2)], &path).expect("draws");
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(text.starts_with("<svg") && text.contains("exact, ms") && text.contains("graph, ms"));
        growth_plot(&[], &path).expect("draws an empty plot");
    }

    #[test]
    fn an_axis_is_finite_whatever_was_measured() {
        assert_eq!(padded([].into_iter()), 1.0..10.0);
        assert_eq!(padded([f64::NAN, f64::INFINITY, 0.0, -1.0].into_iter()), 1.0..10.0);
        assert_eq!(padded([f64::INFINITY, 10.0, 100.0].into_iter()), 8.0..125.0);
    }
}
