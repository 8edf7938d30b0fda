//! The page of a run: one file with charts and tables, made only from the rows. It loads nothing
//! and runs no script, so that it can be kept beside the record and read years later.

mod axis;
mod bars;
mod contenders;
mod dots;
mod fates;
mod figures;
mod headline;
mod lines;
mod plot;
mod sections;
mod stats;
mod tables;
mod text;

use crate::record::{Record, Row};
use stats::Run;
use text::escape;

/// Returns the page for any record. Workloads that did not run are listed as left out.
pub fn html(record: &Record) -> String {
    let run = Run::new(record);
    let body = if run.is_empty() {
        "<p class=\"lead\">The record holds no rows: nothing was run.</p>\n".to_owned()
    } else {
        content(&run)
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>Locks between processes: pshared and others</title>\n<style>\n{}</style>\n</head>\n<body>\n<header>\n<h1>Locks between processes: pshared and others</h1>\n{}</header>\n<main>\n{body}</main>\n<footer><p>Made from the record of one run. The figures apply to this machine and this date.</p></footer>\n</body>\n</html>\n",
        include_str!("report/style.css"),
        about(record)
    )
}

fn about(record: &Record) -> String {
    let item = |(key, value): &(String, String)| {
        format!(
            "<div{}><dt>{}</dt><dd>{}</dd></div>",
            if value.len() > 32 {
                " class=\"long\""
            } else {
                ""
            },
            escape(key),
            escape(value)
        )
    };
    let items: String = record.about.iter().map(item).collect();
    if items.is_empty() {
        return "<p class=\"note\">The record does not describe the machine.</p>\n".to_owned();
    }
    format!("<dl class=\"about\">{items}</dl>\n")
}

fn content(run: &Run) -> String {
    let sentences: String = headline::sentences(run)
        .iter()
        .map(|sentence| format!("<li>{sentence}</li>\n"))
        .collect();
    let found = if sentences.is_empty() {
        "<p class=\"note\">The record has no rows that allow comparing this crate's lock with another.</p>\n"
            .to_owned()
    } else {
        format!("<ul class=\"lead\">\n{sentences}</ul>\n")
    };
    let sections = sections::all(run);
    let links: String = sections
        .iter()
        .map(|section| format!("<li><a href=\"#{}\">{}</a></li>", section.id, section.title))
        .collect();
    let charts: String = sections
        .iter()
        .map(|section| {
            format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{}</h2>\n{}</section>\n",
                section.title,
                section.body,
                id = section.id
            )
        })
        .collect();
    let tables: String = run
        .workloads()
        .into_iter()
        .map(|workload| tables::all(run, workload))
        .collect();
    format!(
        "<section id=\"found\" aria-labelledby=\"found-title\">\n<h2 id=\"found-title\">Findings</h2>\n{found}</section>\n<nav aria-label=\"Sections\"><ul>{links}<li><a href=\"#all\">All medians</a></li></ul></nav>\n<section id=\"overview\" aria-labelledby=\"overview-title\">\n<h2 id=\"overview-title\">Overview of the locks</h2>\n{}{}<p class=\"note\">In all charts below, a figure is the median of its rounds. The thin bar (for {}, the band) spans the lowest to the highest round. A hollow bar marks a lock that works within one process only. On a log axis, compare the positions of the ends of the bars, not their lengths.</p>\n</section>\n{charts}<section id=\"all\" aria-labelledby=\"all-title\">\n<h2 id=\"all-title\">All medians</h2>\n<details><summary>Median (lowest–highest round) of every figure</summary>\n{tables}</details>\n</section>\n",
        tables::overview(run),
        tables::legend(run),
        run.contenders
            .iter()
            .find(|contender| contender.own)
            .map_or("this crate's lock".to_owned(), |own| escape(own.name)),
    )
}
