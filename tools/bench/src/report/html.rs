//! A page by itself: no script, nothing fetched.

use super::{arms, cell, distinct, figure, goals, headline, ratios, table, workloads};
use crate::record::Record;
use crate::scenario::shipped;
use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::fmt::Write as _;

const SIZE: (u32, u32) = (560, 320);

/// A palette that colour-blind readers can distinguish, too (Okabe and Ito's).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}\
h1,h2{line-height:1.2}pre{overflow-x:auto;background:#f5f5f2;padding:1em;font-size:12px}\
figure{display:inline-block;margin:0 1em 1em 0}figcaption{font-size:13px;color:#555}\
.mark{color:#b00;font-weight:bold}";

/// What plots have in common: lines of named points.
struct Plot {
    title: String,
    x: &'static str,
    y: &'static str,
    log_y: bool,
    lines: Vec<(String, Vec<(f64, f64)>)>,
    points_only: bool,
}

/// The page.
///
/// # Errors
///
/// The plotting library cannot draw the figures of a plot.
pub fn html(records: &[Record]) -> Result<String> {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>infera bench</title><style>{STYLE}</style><h1>infera bench</h1>"
    );
    let kernels = distinct(
        records
            .iter()
            .map(|one| format!("{}, {} CPUs", one.kernel, one.cpus)),
    );
    let seeds = distinct(records.iter().map(|one| one.seed)).len();
    let _ = write!(
        page,
        "<p>{}; seeds: {seeds}. Every arm of a scenario ran in one boot, in another order with each seed. Lines are medians over the seeds. \
         In exact time (QEMU counts instructions) compare arms, not with other machines.</p>",
        escape(&kernels.join("; "))
    );
    let ejected: Vec<String> = distinct(
        records
            .iter()
            .filter(|one| one.ejected)
            .map(|one| format!("{} under {}", one.scenario, one.arm)),
    );
    if !ejected.is_empty() {
        let _ = write!(
            page,
            "<p class=\"mark\">Ejected: {}</p>",
            escape(&ejected.join(", "))
        );
    }
    for scenario in distinct(records.iter().map(|one| one.scenario.clone())) {
        let what = shipped()
            .into_iter()
            .find(|one| one.name == scenario)
            .map(|one| one.what);
        let _ = write!(
            page,
            "<h2>{}</h2><p>{}</p>",
            escape(&scenario),
            escape(&what.unwrap_or_default())
        );
        for plot in plots(records, &scenario) {
            let _ = write!(
                page,
                "<figure>{}<figcaption>{}</figcaption></figure>",
                draw(&plot)?,
                escape(&plot.title)
            );
        }
    }
    let _ = write!(
        page,
        "<h2>Figures</h2><pre>{}</pre><pre>{}</pre><pre>{}</pre></html>",
        escape(&goals(records)),
        escape(&ratios(records)),
        escape(&table(records))
    );
    Ok(page)
}

fn plots(records: &[Record], scenario: &str) -> Vec<Plot> {
    let here: Vec<&Record> = records
        .iter()
        .filter(|one| one.scenario == scenario)
        .collect();
    let rungs = distinct(here.iter().map(|one| one.rung));
    let Some(top) = rungs.iter().max().copied() else {
        return Vec::new();
    };
    let at_top: Vec<&Record> = here.iter().copied().filter(|one| one.rung == top).collect();
    let example = workloads(&at_top);
    let arms = arms(records);
    let mut plots = Vec::new();
    let latencies = example
        .iter()
        .filter(|work| work.values.contains_key("p99_us"));
    for work in latencies.clone() {
        if rungs.len() > 1 {
            let lines = arms.iter().map(|arm| {
                let points = rungs.iter().filter_map(|rung| {
                    let spread =
                        figure(&cell(records, scenario, *rung, arm), &work.name, "p99_us")?;
                    Some((f64::from(*rung), spread.median))
                });
                (arm.clone(), points.collect())
            });
            plots.push(Plot {
                title: format!("{}: p99 by background load", work.name),
                x: "threads of background",
                y: "p99, us",
                log_y: true,
                lines: lines.collect(),
                points_only: false,
            });
        }
        let lines = arms.iter().map(|arm| {
            let cell = cell(records, scenario, top, arm);
            let one = cell
                .first()
                .and_then(|one| one.work.iter().find(|other| other.name == work.name));
            let cdf = one.map(|one| one.cdf_us.clone()).unwrap_or_default();
            // Nines: 1 is 90 %, 2 is 99 %.
            let points = cdf
                .into_iter()
                .map(|(quantile, us)| (-(1.0 - quantile).log10(), us));
            (arm.clone(), points.collect())
        });
        plots.push(Plot {
            title: format!("{}: latency by quantile beside {top} threads, first seed (1: 90 %, 2: 99 %, 3: 99.9 %)", work.name),
            x: "nines",
            y: "us",
            log_y: true,
            lines: lines.collect(),
            points_only: false,
        });
    }
    let throughput = example
        .iter()
        .find(|work| matches!(headline(work), Some((_, false))));
    if let (Some(work), Some(service)) = (throughput, latencies.clone().next())
        && let Some((key, _)) = headline(work)
    {
        let lines = arms.iter().map(|arm| {
            let cell = cell(records, scenario, top, arm);
            let point = figure(&cell, &work.name, key).zip(figure(&cell, &service.name, "p99_us"));
            (
                arm.clone(),
                point
                    .map(|(x, y)| (x.median, y.median))
                    .into_iter()
                    .collect(),
            )
        });
        plots.push(Plot {
            title: format!(
                "{}'s progress against {}'s p99, beside {top} threads: right and low is good",
                work.name, service.name
            ),
            x: "work done",
            y: "p99, us",
            log_y: true,
            lines: lines.collect(),
            points_only: true,
        });
    }
    let ours = arms.iter().rev().find(|arm| arm.starts_with("infera:"));
    if let Some(one) = ours.and_then(|arm| cell(records, scenario, top, arm).first().copied())
        && one.shares.len() > 1
    {
        let tiers = distinct(
            one.shares
                .iter()
                .flat_map(|share| share.cpus.keys().cloned()),
        );
        let lines = tiers.into_iter().map(|tier| {
            let points = one
                .shares
                .iter()
                .filter_map(|share| Some((share.at_s, *share.cpus.get(&tier)?)));
            (tier.clone(), points.collect())
        });
        plots.push(Plot {
            title: format!(
                "CPUs of each tier over time under {}, beside {top} threads",
                one.arm
            ),
            x: "seconds",
            y: "CPUs",
            log_y: false,
            lines: lines.collect(),
            points_only: false,
        });
    }
    plots.retain(|plot| plot.lines.iter().any(|(_, points)| !points.is_empty()));
    plots
}

fn draw(plot: &Plot) -> Result<String> {
    let points = || plot.lines.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN, f64::max);
    let least = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MAX, f64::min);
    let low = if plot.points_only {
        least(|point| point.0) * 0.95
    } else {
        0.0
    };
    // Room for the legend, which would hide the ends of lines.
    let most_x = most(|point| point.0);
    let across = low..(most_x + (most_x - low) * 0.5).max(low + 0.1);
    let (bottom, top) = (least(|point| point.1), most(|point| point.1).max(0.1) * 1.2);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut builder = ChartBuilder::on(&root);
        builder
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(64);
        if plot.log_y {
            let up = (bottom.max(0.1) * 0.8..top).log_scale();
            let mut chart = builder.build_cartesian_2d(across, up).map_err(wrong)?;
            lines(&mut chart, plot)?;
        } else {
            let mut chart = builder
                .build_cartesian_2d(across, 0.0..top)
                .map_err(wrong)?;
            lines(&mut chart, plot)?;
        }
        root.present().map_err(wrong)?;
    }
    Ok(svg)
}

fn wrong(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("plot: {error}")
}

fn lines<'a, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>,
    plot: &Plot,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(wrong)?;
    for (at, (name, points)) in plot.lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        if !plot.points_only {
            chart
                .draw_series(LineSeries::new(
                    points.iter().copied(),
                    colour.stroke_width(2),
                ))
                .map_err(wrong)?;
        }
        chart
            .draw_series(
                points
                    .iter()
                    .map(|point| Circle::new(*point, 3, colour.filled())),
            )
            .map_err(wrong)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(match plot.points_only {
            true => SeriesLabelPosition::UpperRight,
            false => SeriesLabelPosition::LowerRight,
        })
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
        .map_err(wrong)?;
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::testing::records;
    use super::*;

    #[test]
    fn the_page_has_all_and_fetches_nothing() {
        let page = html(&records()).unwrap();
        // p99 by load, the distribution, progress.
        assert_eq!(page.matches("<svg").count(), 3, "{page}");
        assert!(page.contains("infera:weighted") && page.contains("10 / 108 / 180"));
        for foreign in ["<script", "src=", "href="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn names_cannot_become_tags() {
        let mut records = records();
        for record in &mut records {
            record.scenario = "<b>".into();
        }
        assert!(!html(&records).unwrap().contains("<b>"));
    }
}
