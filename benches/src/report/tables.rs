//! The tables: the overview, the crash table, and all medians.

use super::contenders::{Contender, FAMILIES};
use super::fates::{self, Fate};
use super::headline;
use super::stats::{Found, Run};
use super::text::{self, escape};

/// Returns a table with one line for each contender and the figures that users choose by.
pub fn overview(run: &Run) -> String {
    let cell = run.main_cell("contended");
    let alone = run.main_cell("uncontended");
    let (four, eight) = (
        run.nearest("contended", 4).unwrap_or(4),
        run.nearest("contended", 8).unwrap_or(8),
    );
    let contended = |contender: &Contender, processes: u32, figure: &str| {
        let found = cell.and_then(|cell| run.found("contended", cell, processes, contender.name));
        value(found, figure)
    };
    let mut rows = String::new();
    // A contender that only wakes and does not lock has its chart under handoff.
    let locks = |contender: &&Contender| {
        let mut spots = ["contended", "uncontended", "crash"]
            .into_iter()
            .flat_map(|workload| run.spots(workload));
        spots.any(|(spot, _)| spot.contender == contender.name)
    };
    for contender in run.contenders.iter().filter(locks) {
        let one = run.nearest("uncontended", 1).unwrap_or(1);
        let found = alone.and_then(|cell| run.found("uncontended", cell, one, contender.name));
        let ns = match (
            found.and_then(Found::failed),
            found.and_then(headline::uncontended_ns),
        ) {
            (Some(word), _) => bad(word),
            (None, stat) => stat.map_or("–".to_owned(), |stat| {
                text::quantity(stat.median, &stat.unit)
            }),
        };
        let fates = fates::of(run, contender.name);
        let fate = fates.worst().map_or("–".to_owned(), |fate| {
            format!("{}{}", short(fate), fates.often(fate))
        });
        rows += &format!(
            "<tr{}><th scope=\"row\">{}</th><td>{ns}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{fate}</td></tr>\n",
            if contender.own { " class=\"ours\"" } else { "" },
            named(contender),
            contended(contender, four, "throughput"),
            contended(contender, eight, "p99.9"),
            contended(contender, eight, "cpu"),
            contended(contender, eight, "fairness"),
        );
    }
    let (four, eight) = (text::processes(four), text::processes(eight));
    let work = cell.map_or(String::new(), |cell| {
        format!(" Contended: {}.", escape(&text::cell(cell)))
    });
    format!(
        "<p class=\"note\">Medians.{work} “–”: not measured.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Overview of all locks\"><table><thead><tr><th scope=\"col\">lock</th><th scope=\"col\">uncontended</th><th scope=\"col\">throughput, {four}</th><th scope=\"col\">p99.9 acquire, {eight}</th><th scope=\"col\">CPU, {eight}</th><th scope=\"col\">fairness, {eight}</th><th scope=\"col\">holder killed</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn bad(word: &str) -> String {
    format!("<span class=\"bad\">{word}</span>")
}

fn value(found: Option<&Found>, figure: &str) -> String {
    match found {
        None => "–".to_owned(),
        Some(found) => match found.stat_or_word(figure) {
            None => "–".to_owned(),
            Some(Err(word)) => bad(word),
            Some(Ok(stat)) => escape(&text::quantity(stat.median, &stat.unit)),
        },
    }
}

/// Returns the name with the colour of its family. The title also names the family, for readers who
/// cannot distinguish the colours.
pub fn named(contender: &Contender) -> String {
    let class = if contender.own {
        "own".to_owned()
    } else {
        format!("c{}", contender.colour)
    };
    let family = escape(contender.family);
    format!(
        "<span class=\"swatch {class}\" title=\"{family}\"></span>{}",
        escape(contender.name)
    )
}

pub fn legend(run: &Run) -> String {
    let mut items = String::new();
    let own: Vec<&str> = run
        .contenders
        .iter()
        .filter(|known| known.own)
        .map(|own| own.name)
        .collect();
    if !own.is_empty() {
        let names = own
            .into_iter()
            .map(escape)
            .collect::<Vec<_>>()
            .join(" and ");
        items += &format!(
            "<li><span class=\"swatch own\"></span>{names}: the subject of this page</li>"
        );
    }
    for (colour, (family, words)) in FAMILIES.iter().enumerate() {
        let count = run
            .contenders
            .iter()
            .filter(|known| known.colour == colour && !known.own)
            .count();
        if count > 0 {
            let rest = if *family == "pshared" {
                ", other locks"
            } else {
                ""
            };
            items += &format!(
                "<li><span class=\"swatch c{colour}\"></span>{}{rest} ({count})</li>",
                escape(words)
            );
        }
    }
    format!("<ul class=\"legend\">{items}</ul>\n")
}

fn short(fate: Fate) -> &'static str {
    match fate {
        Fate::Reported => "<span class=\"good\">✓ told</span>",
        Fate::Silent => "<span class=\"warn\">⚠ silent</span>",
        Fate::Hangs => "<span class=\"bad\">✗ hangs</span>",
        Fate::Broken => "<span class=\"bad\">BROKEN</span>",
    }
}

fn meaning(fate: Fate) -> &'static str {
    match fate {
        Fate::Reported => {
            "the next locker acquires the lock with an error, and may repair the data"
        }
        Fate::Silent => "the next locker acquires the lock without an error",
        Fate::Hangs => "every locker waits forever",
        Fate::Broken => "two processes held the lock at once, or a write was lost",
    }
}

/// Returns `None` if the workload was not run.
pub fn crash(run: &Run) -> Option<String> {
    let mut rows = String::new();
    for contender in &run.contenders {
        let fates = fates::of(run, contender.name);
        let mut cells: Vec<String> = [Fate::Broken, Fate::Hangs, Fate::Silent, Fate::Reported]
            .into_iter()
            .filter(|fate| fates.counts[*fate as usize] > 0)
            .map(|fate| format!("{}{}: {}", short(fate), fates.often(fate), meaning(fate)))
            .collect();
        cells.extend(
            broken_verdicts(run, "crash", contender.name)
                .iter()
                .map(|verdict| escape(verdict)),
        );
        cells.extend(fates.others.iter().map(|verdict| escape(verdict)));
        if !cells.is_empty() {
            let ours = if contender.own { " class=\"ours\"" } else { "" };
            rows += &format!(
                "<tr{ours}><th scope=\"row\">{}</th><td class=\"words\">{}</td></tr>\n",
                named(contender),
                cells.join("<br>")
            );
        }
    }
    (!rows.is_empty()).then(|| {
        format!(
            "<div class=\"scroll\"><table class=\"crash\"><thead><tr><th scope=\"col\">lock</th><th scope=\"col\" class=\"words\">after its holder is killed</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n"
        )
    })
}

/// Returns the BROKEN verdicts, each once.
fn broken_verdicts<'a>(run: &Run<'a>, workload: &str, contender: &str) -> Vec<&'a str> {
    let spots = run
        .spots(workload)
        .filter(|(spot, _)| spot.contender == contender);
    let verdicts: Vec<&str> = spots
        .flat_map(|(_, found)| found.verdicts().iter().copied())
        .collect();
    once(&verdicts)
        .into_iter()
        .filter(|verdict| verdict.starts_with("BROKEN"))
        .collect()
}

/// Returns the remarks below the charts of a workload: what is broken, and every other verdict
/// except `ok`.
pub fn remarks(run: &Run, workload: &str) -> String {
    /// The maximum number of remarks shown for a contender. The table at the end has all.
    const SHOWN: usize = 3;
    let mut items = String::new();
    for contender in &run.contenders {
        let mut remarks: Vec<String> = Vec::new();
        for (spot, found) in run
            .spots(workload)
            .filter(|(spot, _)| spot.contender == contender.name)
        {
            for verdict in once(found.verdicts())
                .into_iter()
                .filter(|verdict| *verdict != "ok")
            {
                let verdict = match (verdict.strip_prefix("BROKEN"), Fate::of(verdict)) {
                    (Some(rest), _) => format!("{}{}", bad("BROKEN"), escape(rest)),
                    (None, Some(fate)) => short(fate).to_owned(),
                    (None, None) => escape(verdict),
                };
                remarks.push(format!(
                    "{verdict} ({}, {})",
                    text::processes(spot.processes),
                    escape(&text::cell(spot.cell))
                ));
            }
        }
        if !remarks.is_empty() {
            let more = match remarks.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!("; and {more} more, in <a href=\"#all\">all medians</a>"),
            };
            remarks.truncate(SHOWN);
            items += &format!(
                "<li><b>{}</b>: {}{more}</li>\n",
                escape(contender.name),
                remarks.join("; ")
            );
        }
    }
    if items.is_empty() {
        items
    } else {
        format!("<ul class=\"remarks\">{items}</ul>\n")
    }
}

fn once<'a>(verdicts: &[&'a str]) -> Vec<&'a str> {
    let mut verdicts = verdicts.to_vec();
    verdicts.sort_unstable();
    verdicts.dedup();
    verdicts
}

/// Returns a table of all figures of a workload: a line for each spot, a column for each figure.
pub fn all(run: &Run, workload: &str) -> String {
    let figures = run.figures(workload);
    let mut head = String::new();
    for figure in &figures {
        let unit = run
            .spots(workload)
            .find_map(|(_, found)| found.stat(figure))
            .map_or("", |stat| &stat.unit);
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!(" ({})", escape(unit))
        };
        head += &format!("<th scope=\"col\">{}{unit}</th>", escape(figure));
    }
    let mut rows = String::new();
    let mut spots: Vec<_> = run.spots(workload).collect();
    let place = |name| {
        run.contenders
            .iter()
            .position(|contender| contender.name == name)
    };
    spots.sort_by_key(|(spot, _)| (spot.cell, spot.processes, place(spot.contender)));
    for (spot, found) in spots {
        let mut cells = String::new();
        for figure in &figures {
            let value = found.stat(figure).map_or("–".to_owned(), text::with_spread);
            cells += &format!("<td>{value}</td>");
        }
        let verdicts = once(found.verdicts());
        let rounds = figures
            .iter()
            .filter_map(|figure| found.stat(figure))
            .map(|stat| stat.rounds)
            .max();
        rows += &format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"words\">{}</td>{cells}<td>{}</td><td class=\"words\">{}</td></tr>\n",
            escape(spot.contender),
            spot.processes,
            escape(&text::cell(spot.cell)),
            rounds.map_or("–".to_owned(), |rounds| rounds.to_string()),
            escape(&verdicts.join("; "))
        );
    }
    format!(
        "<h3>{name}</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"All medians of {name}\"><table class=\"all\"><thead><tr><th scope=\"col\">lock</th><th scope=\"col\">processes</th><th scope=\"col\" class=\"words\">work</th>{head}<th scope=\"col\">rounds</th><th scope=\"col\" class=\"words\">verdict</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n",
        name = escape(workload)
    )
}
