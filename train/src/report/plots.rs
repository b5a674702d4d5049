//! Plots of a run as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::StepFigures;
use crate::trainer::EpochRecord;

const SIZE: (u32, u32) = (860, 360);
const FONT: &str = "sans-serif";
/// Okabe and Ito's colours, which the colour-blind can tell apart.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
/// The axis goes on beyond the data by this factor, so that the legend covers none.
const LEGEND_ROOM: f64 = 1.2;
/// Points per line at most; beyond, steps are averaged in groups.
const POINTS_MAX: usize = 400;

/// A curve: its name, and the figure of a step that it shows.
type Line = (&'static str, fn(&StepFigures) -> f64);
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError = Box<dyn std::error::Error + Send + Sync>;

/// Loss over steps: total, full stream, routed stream and distillation, as far as they are not 0.
///
/// # Errors
/// The plot cannot be drawn.
pub fn loss_curves(steps: &[StepFigures]) -> Result<String, DrawError> {
    let lines: [Line; 4] = [
        ("total", |s| s.loss),
        ("full stream", |s| s.full),
        ("routed stream", |s| s.routed),
        ("distillation", |s| s.distill),
    ];
    let lines = lines.map(|(name, value)| (name, thinned(steps, value)));
    let lines =
        lines.into_iter().filter(|(_, points)| points.iter().any(|(_, y)| *y != 0.0)).collect::<Vec<_>>();
    let last = steps.last().map_or(1.0, |step| step.step as f64).max(2.0);
    let highest = lines.iter().flat_map(|(_, points)| points).map(|(_, y)| *y).fold(1e-9, f64::max);
    let mut svg = String::new();
    {
        let area = canvas(&mut svg)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Loss", (FONT, 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(1.0..1.0 + (last - 1.0) * LEGEND_ROOM, 0.0..highest * 1.05)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .x_labels((last as usize).min(10))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()?;
        for ((name, points), colour) in lines.into_iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .label_font((FONT, 13))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Means over groups of steps: (middle step, mean).
fn thinned(steps: &[StepFigures], value: fn(&StepFigures) -> f64) -> Vec<(f64, f64)> {
    let group = steps.len().div_ceil(POINTS_MAX).max(1);
    let mean = |chunk: &[StepFigures], of: &dyn Fn(&StepFigures) -> f64| {
        chunk.iter().map(of).sum::<f64>() / chunk.len() as f64
    };
    steps.chunks(group).map(|chunk| (mean(chunk, &|s| s.step as f64), mean(chunk, &value))).collect()
}

/// How often each router chose each sub-block in the last epoch: a bar per router, in network order. `None` if nothing was routed.
///
/// # Errors
/// The plot cannot be drawn.
pub fn router_use(records: &[EpochRecord]) -> Result<Option<String>, DrawError> {
    let Some(record) = records.last().filter(|record| !record.usage_by_router.is_empty()) else {
        return Ok(None);
    };
    let (routers, sub_blocks) = (record.usage_by_router.len(), record.usage.len());
    let mut svg = String::new();
    {
        let area = canvas(&mut svg)?;
        let caption = format!("Share of each sub-block per router, epoch {}", record.epoch);
        let mut chart = ChartBuilder::on(&area)
            .caption(caption, (FONT, 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0.5..0.5 + routers as f64 * LEGEND_ROOM, 0.0..1.0)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_desc("router, in network order")
            .x_labels(routers.min(30))
            .x_label_formatter(&|x| if *x > routers as f64 + 0.5 { String::new() } else { format!("{x:.0}") })
            .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()?;
        for k in 0..sub_blocks {
            let colour = COLOURS[k % COLOURS.len()];
            let bars = record.usage_by_router.iter().enumerate().map(|(router, usage)| {
                let (middle, from) = (router as f64 + 1.0, usage[..k].iter().sum::<f64>());
                Rectangle::new([(middle - 0.4, from), (middle + 0.4, from + usage[k])], colour.filled())
            });
            chart
                .draw_series(bars)?
                .label(format!("sub-block {}", k + 1))
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .label_font((FONT, 13))
            .draw()?;
        area.present()?;
    }
    Ok(Some(svg))
}

fn canvas(svg: &mut String) -> Result<Area<'_>, DrawError> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize, routed: f64) -> StepFigures {
        StepFigures {
            epoch: 1,
            step,
            loss: 9.0 / step as f64,
            full: 4.0,
            routed,
            distill: 0.0,
            learning_rate: 1e-4,
        }
    }

    #[test]
    fn a_line_for_each_term_that_is_there() {
        let plain = loss_curves(&(1..=50).map(|i| step(i, 0.0)).collect::<Vec<_>>()).unwrap();
        assert!(plain.contains("full stream") && !plain.contains("routed stream"));
        let many: Vec<StepFigures> = (1..=1000).map(|i| step(i, 1.0)).collect();
        assert_eq!(thinned(&many, |s| s.routed).len(), 334);
        assert!(loss_curves(&many).unwrap().contains("routed stream"));
        assert!(loss_curves(&[]).unwrap().starts_with("<svg"));
    }

    #[test]
    fn a_bar_for_each_router_and_sub_block() {
        let mut record = EpochRecord {
            epoch: 2,
            step: 9,
            loss: 0.0,
            full: 0.0,
            routed: 0.0,
            distill: 0.0,
            seconds: 1.0,
            waiting: 0.0,
            images_per_second: 1.0,
            usage: vec![0.5, 0.5],
            usage_by_router: vec![vec![0.25, 0.75], vec![0.75, 0.25]],
            selection: None,
        };
        let svg = router_use(std::slice::from_ref(&record)).unwrap().unwrap();
        let fill = |colour: &str| svg.matches(&format!("fill=\"{colour}\"")).count();
        // Two bars and the legend's for each of two sub-blocks.
        assert_eq!((fill("#0072B2"), fill("#E69F00")), (3, 3), "{svg}");
        record.usage_by_router.clear();
        assert_eq!(router_use(&[record]).unwrap(), None);
    }
}
