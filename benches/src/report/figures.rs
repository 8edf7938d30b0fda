//! Charts with their captions, a list for each section.

use super::bars::{self, Bar};
use super::dots::{self, Dots};
use super::headline;
use super::lines::{self, Line};
use super::stats::{Cell, Found, Run, Stat};
use super::text::{self, escape};
use std::borrow::Cow;

pub fn grid(figures: &[String]) -> String {
    format!("<div class=\"grid\">\n{}</div>\n", figures.concat())
}

/// Returns a chart with its captions, the second of which is HTML. Returns `None` without a chart.
fn figure(title: &str, more: &str, chart: Option<String>) -> Option<String> {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(" <span>{more}</span>")
    };
    Some(format!(
        "<figure>\n<figcaption><b>{}</b>{more}</figcaption>\n{}</figure>\n",
        escape(title),
        chart?
    ))
}

pub fn throughput(run: &Run) -> Vec<String> {
    let one = |cell: Cell| {
        let mut failed: Vec<String> = Vec::new();
        let lines: Vec<Line> = run
            .contenders
            .iter()
            .map(|&contender| {
                let point = |processes| {
                    Some((
                        processes,
                        run.stat("contended", cell, processes, contender.name, "throughput")?,
                    ))
                };
                let counts = run.processes("contended");
                let found = |processes| run.found("contended", cell, processes, contender.name);
                let word = counts
                    .iter()
                    .filter_map(|count| found(*count))
                    .find_map(Found::failed);
                failed.extend(word.map(|word| format!("{} ({word})", contender.name)));
                Line {
                    contender,
                    failed: word.is_some(),
                    points: counts.into_iter().filter_map(point).collect(),
                }
            })
            .collect();
        let mut more = match failed.as_slice() {
            [] => String::new(),
            failed => {
                let names = escape(&text::list(failed));
                format!(
                    "<b class=\"bad\">✗</b> without points at some numbers of processes: <b class=\"bad\">{names}</b>. "
                )
            }
        };
        let title = text::cell(cell);
        let (chart, below) = lines::chart(&format!("Throughput over processes: {title}"), lines)?;
        if !below.is_empty() {
            more += &format!(
                "Drawn at the lower edge, although below it: {}.",
                escape(&text::list(&below))
            );
        }
        figure(&title, &more, Some(chart))
    };
    run.cells("contended").into_iter().filter_map(one).collect()
}

/// Returns the numbers of processes that are shown in detail: a small one, and one above the number
/// of CPUs of a typical machine.
fn chosen(run: &Run, workload: &str) -> Vec<u32> {
    let mut chosen: Vec<u32> = [2, 8]
        .into_iter()
        .filter_map(|wanted| run.nearest(workload, wanted))
        .collect();
    chosen.dedup();
    chosen
}

pub fn latency(run: &Run) -> Vec<String> {
    const FIGURES: [&str; 4] = ["p50", "p99", "p99.9", "max"];
    let mut figures = Vec::new();
    let main = run.main_cell("contended");
    let mut cells = run.cells("contended");
    cells.sort_by_key(|cell| Some(*cell) != main);
    for cell in cells {
        for processes in chosen(run, "contended") {
            let dots: Vec<Dots> = run
                .contenders
                .iter()
                .filter_map(|&contender| {
                    let found = run.found("contended", cell, processes, contender.name)?;
                    let stats: Vec<_> = FIGURES.iter().map(|figure| found.stat(figure)).collect();
                    let failed = found.failed();
                    (failed.is_some() || stats.iter().any(Option::is_some)).then_some(Dots {
                        contender,
                        stats,
                        failed,
                    })
                })
                .collect();
            let title = format!("{}: {}", text::processes(processes), text::cell(cell));
            figures.extend(figure(
                &title,
                "",
                dots::chart(
                    &format!("Percentiles of the acquire latency, {title}"),
                    &FIGURES,
                    dots,
                ),
            ));
        }
    }
    // Only the first cell is expanded. The page would be long with all of them expanded.
    let open = chosen(run, "contended").len();
    fold(
        figures,
        open,
        "The same charts for other work inside and outside",
    )
}

fn fold(mut figures: Vec<String>, open: usize, summary: &str) -> Vec<String> {
    if figures.len() > open && open > 0 {
        let rest = figures.split_off(open);
        figures.push(format!(
            "<details class=\"row\"><summary>{summary}</summary>\n{}</details>\n",
            grid(&rest)
        ));
    }
    figures
}

pub fn cost(run: &Run) -> Vec<String> {
    let Some(cell) = run.main_cell("contended") else {
        return Vec::new();
    };
    let mut figures = Vec::new();
    for (what, name, more) in [("cpu", "CPU time", false), ("fairness", "Fairness", true)] {
        for processes in chosen(run, "contended") {
            let title = format!("{name}, {}", text::processes(processes));
            let better = if more {
                "More is better."
            } else {
                "Less is better."
            };
            let caption = format!("{}. {better}", escape(&text::cell(cell)));
            // CPU times of spinning and of sleeping differ by powers of ten. Shares do not.
            let chart = bars::chart(
                &title,
                spot_bars(run, "contended", cell, processes, what),
                more,
                !more,
            );
            figures.extend(figure(&title, &caption, chart));
        }
    }
    figures
}

fn spot_bars<'r>(
    run: &'r Run,
    workload: &str,
    cell: Cell,
    processes: u32,
    what: &str,
) -> Vec<Bar<'r>> {
    run.contenders
        .iter()
        .filter_map(|&contender| {
            let found = run.found(workload, cell, processes, contender.name)?;
            Some(Bar {
                contender,
                stat: found.stat_or_word(what)?,
            })
        })
        .collect()
}

/// Returns a chart for each spot of the workload: of the wanted figures, or of all figures if the
/// rows hold none of those.
pub fn bars_of(run: &Run, workload: &str, wanted: &[&str]) -> Vec<String> {
    let mut whats = run.figures(workload);
    if whats.iter().any(|what| wanted.contains(what)) {
        whats.retain(|what| wanted.contains(what));
    }
    let mut figures = Vec::new();
    for what in whats {
        let more = matches!(what, "throughput" | "fairness");
        for cell in run.cells(workload) {
            for processes in run.processes(workload) {
                let title = format!("{what}, {}", text::processes(processes));
                let bars = spot_bars(run, workload, cell, processes, what);
                let label = format!("{workload}: {title}, {}", text::place(cell));
                let chart = bars::chart(&label, bars, more, !more);
                figures.extend(figure(&title, &escape(&text::place(cell)), chart));
            }
        }
    }
    figures
}

pub fn uncontended(run: &Run) -> Vec<String> {
    let workload = "uncontended";
    let mut figures = Vec::new();
    for cell in run.cells(workload) {
        for processes in run.processes(workload) {
            let stats: Vec<(_, Result<Cow<Stat>, _>)> = run
                .contenders
                .iter()
                .filter_map(|&contender| {
                    let found = run.found(workload, cell, processes, contender.name)?;
                    let stat = found
                        .failed()
                        .map(Err)
                        .or_else(|| headline::uncontended_ns(found).map(Ok))?;
                    Some((contender, stat))
                })
                .collect();
            let bars = stats.iter().map(|(contender, stat)| Bar {
                contender: *contender,
                stat: stat.as_deref().map_err(|word| *word),
            });
            let title = format!("lock and unlock, {}", text::processes(processes));
            let chart = bars::chart(&format!("Uncontended {title}"), bars.collect(), false, true);
            figures.extend(figure(&title, &escape(&text::place(cell)), chart));
        }
    }
    figures
}
