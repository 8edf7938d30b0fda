//! The tables on the terminal: a table for each cell, a line for each contender.

use crate::contender::list::{BARE, MEASURE};
use crate::figures::{ByRound, CellName, Figures, is_fine, median, ratios, values};
use std::fmt::Write as _;

/// A column: its heading, and the figure that it shows.
struct Column {
    heading: &'static str,
    figure: &'static str,
}

const THROUGHPUT: Column = column("Mops/s", "throughput");
const LATENCIES: [Column; 4] = [
    column("p50 ns", "p50"),
    column("p99 ns", "p99"),
    column("p99.9 ns", "p99.9"),
    column("max ns", "max"),
];

const fn column(heading: &'static str, figure: &'static str) -> Column {
    Column { heading, figure }
}

/// Returns all tables of a record. Each has a column of ratios to one contender, the reference of
/// the targets.
pub fn text(figures: &Figures<'_>) -> String {
    let mut out = String::new();
    for cell in figures.cells() {
        table(&mut out, figures, &cell);
    }
    out
}

fn table(out: &mut String, figures: &Figures<'_>, cell: &CellName) {
    let (main, more): (Column, Vec<Column>) = match cell.workload.as_str() {
        "contended" => {
            let mut more = vec![column("fairness", "fairness"), column("CPU s/Mop", "cpu")];
            more.extend(LATENCIES);
            (THROUGHPUT, more)
        }
        "many locks" => (THROUGHPUT, vec![column("CPU s/Mop", "cpu")]),
        "handoff" => (
            column("round trip ns", "round trip"),
            vec![column("CPU s/Mop", "cpu")],
        ),
        "crash" => (column("recovery ns", "recovery"), Vec::new()),
        _ => (THROUGHPUT, Vec::new()),
    };
    let uncontended = cell.workload == "uncontended";
    let heading = if uncontended { "ns" } else { main.heading };
    let measure = if cell.workload == "handoff" {
        BARE
    } else {
        MEASURE
    };
    let _ = write!(
        out,
        "\n{}\n{:26} {heading:>13} {:>19} {:>8}",
        cell.title(),
        "",
        "lowest .. highest",
        if cell.workload == "handoff" {
            "/ bare"
        } else {
            "/ robust"
        }
    );
    for column in &more {
        let _ = write!(out, " {:>10}", column.heading);
    }
    out.push_str("  verdict\n");
    // Uncontended cells show a time instead of a rate, because users compare times.
    let shown = |contender: &str| {
        let mut by_round = figures.by_round(cell, contender, main.figure);
        if uncontended {
            by_round
                .values_mut()
                .for_each(|value| *value = 1000.0 / *value);
        }
        by_round
    };
    let measured = shown(measure);
    for (contender, _) in figures.contenders(cell) {
        let by_round = shown(contender);
        let ratio = median(ratios(&by_round, &measured));
        let _ = write!(
            out,
            "{contender:26} {:>13} {:>19} {:>8}",
            number(median(values(&by_round))),
            spread(&by_round),
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
        );
        for column in &more {
            let by_round = figures.by_round(cell, contender, column.figure);
            let _ = write!(out, " {:>10}", number(median(values(&by_round))));
        }
        let verdict = figures.verdict(cell, contender).unwrap_or("");
        let mark = if is_fine(verdict) { "" } else { "! " };
        let _ = writeln!(out, "  {mark}{verdict}");
    }
}

fn spread(by_round: &ByRound) -> String {
    let least = by_round.values().copied().min_by(f64::total_cmp);
    let most = by_round.values().copied().max_by(f64::total_cmp);
    match by_round.len() {
        0 | 1 => String::new(),
        _ => format!("{} .. {}", number(least), number(most)),
    }
}

/// Formats a value with three or four digits, whatever its size.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => String::from("-"),
        Some(0.0) => String::from("0"),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 0.1 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
    }
}
