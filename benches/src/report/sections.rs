//! The sections with charts, ordered by interest.

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
        // Three sections show the contended workload, but its remarks appear once.
        if !matches!(id, "latency" | "cost") {
            body += &tables::remarks(run, workload);
        }
        Section { id, title, body }
    };
    let mut crash = tables::crash(run).unwrap_or_else(|| not_run("crash"));
    let recovery = bars_of(run, "crash", &["recovery"]);
    if !recovery.is_empty() {
        crash +=
            "<p>Time from the kill until the next locker holds the lock. Less is better.</p>\n";
        crash += &grid(&recovery);
    }
    vec![
        section(
            "throughput",
            "Throughput",
            "contended",
            "Processes acquire one lock in turn as fast as they can, with work inside and outside the critical section. More is better.",
            throughput(run),
        ),
        section(
            "latency",
            "Latency of an acquire",
            "contended",
            "Time from calling the lock method to holding the lock. Further left is better. The distance between the marks shows how much a bad wait differs from a typical one. Marks are medians of the rounds; their spread is in the table at the end.",
            latency(run),
        ),
        section(
            "cost",
            "CPU and fairness",
            "contended",
            "The CPU time that waiting costs, and how evenly the processes acquire the lock.",
            cost(run),
        ),
        section(
            "handoff",
            "Handoff",
            "handoff",
            "Two processes wake each other in turn: each waits until the other has run. A round trip is one wake in each direction. Less is better.",
            bars_of(run, "handoff", &["round trip"]),
        ),
        Section {
            id: "crash",
            title: "When the holder is killed",
            body: format!(
                "<p>A process is killed (SIGKILL) inside the critical section. Does the next locker receive an error, which warns it that the data may be partially written?</p>\n{crash}"
            ),
        },
        section(
            "deaths",
            "Deaths under load",
            "deaths",
            "Processes are killed repeatedly, preferably inside the critical section, and replaced while the others work. The figures show the work that the processes still complete.",
            bars_of(run, "deaths", &["throughput", "recovery"]),
        ),
        section(
            "uncontended",
            "Without contention",
            "uncontended",
            "One process locks and unlocks without contention. Less is better.",
            uncontended(run),
        ),
        section(
            "many",
            "Many locks",
            "many locks",
            "Processes choose among many locks, so each lock is acquired rarely. The throughput depends on the size and the placement of a lock. More is better.",
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
