//! The sections with charts, in the order in which people ask.

use super::figures::{bars_of, cost, grid, latency, throughput, uncontended};
use super::stats::Run;
use super::tables;
use super::text::escape;

pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    /// HTML.
    pub body: String,
}

pub fn all(run: &Run) -> Vec<Section> {
    let section = |id, title, workload: &str, what: &str, charts: Vec<String>| {
        let mut body = format!("<p>{what}</p>\n");
        match charts.as_slice() {
            [] if run.spots(workload).next().is_none() => body += &not_run(workload),
            [] => body += "<p class=\"note\">Left out: this run has no such figures.</p>\n",
            charts => body += &grid(charts),
        }
        // Once a workload is enough: three sections show the contended one.
        if !matches!(id, "latency" | "cost") {
            body += &tables::remarks(run, workload);
        }
        Section { id, title, body }
    };
    let mut crash = tables::crash(run).unwrap_or_else(|| not_run("crash"));
    let recovery = bars_of(run, "crash", &["recovery"]);
    if !recovery.is_empty() {
        crash += "<p>From the kill until the next one has the lock. Less is better.</p>\n";
        crash += &grid(&recovery);
    }
    vec![
        section(
            "throughput",
            "Throughput",
            "contended",
            "Processes take one lock in turn as fast as they can, with some work inside the section and some outside. More is better.",
            throughput(run),
        ),
        section(
            "latency",
            "How long a lock takes",
            "contended",
            "From asking for the lock to having it. Left is better; the distance between the marks says how far a bad wait is from a usual one. Marks are medians of the rounds; their spread is in the table at the end.",
            latency(run),
        ),
        section(
            "cost",
            "CPU and fairness",
            "contended",
            "What the waiting costs, and whether all get their turn.",
            cost(run),
        ),
        section(
            "handoff",
            "Handoff",
            "handoff",
            "Two processes wake each other in turn: one waits until the other has run. A round trip is there and back. Less is better.",
            bars_of(run, "handoff", &["round trip"]),
        ),
        Section {
            id: "crash",
            title: "When the holder is killed",
            body: format!(
                "<p>A process is killed (SIGKILL) inside its section. What the next one meets: is it told of the death, and so that the data may be half written?</p>\n{crash}"
            ),
        },
        section(
            "deaths",
            "Deaths under load",
            "deaths",
            "Processes are killed again and again, those inside the section first, and replaced while the others work: what they still get done.",
            bars_of(run, "deaths", &["throughput", "recovery"]),
        ),
        section(
            "uncontended",
            "Without contention",
            "uncontended",
            "One process, a lock and unlock that nobody else wants. Less is better.",
            uncontended(run),
        ),
        section(
            "many",
            "Many locks",
            "many locks",
            "Many locks in one map, each taken rarely: what size and place of a lock cost. More is better.",
            bars_of(run, "many locks", &["throughput"]),
        ),
    ]
}

fn not_run(workload: &str) -> String {
    format!(
        "<p class=\"note\">Left out: the <i>{}</i> workload was not run.</p>\n",
        escape(workload)
    )
}
