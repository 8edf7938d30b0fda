//! The HTML pages. They contain no text from a client, so nothing is escaped.

use crate::clock;
use crate::histogram::Durations;
use crate::shared_state::{SharedState, Worker};
use pshared::{Holder, SlotState, SlotView};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

const STYLE: &str = include_str!("style.css");

fn page(title: &str, refresh: bool, body: &str) -> String {
    let refresh = if refresh {
        "<meta http-equiv=\"refresh\" content=\"1\">\n"
    } else {
        ""
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n{refresh}<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// `/`
pub fn home() -> String {
    page(
        "prefork",
        false,
        "<h1>prefork</h1>\n<p>A forking server with workers that share memory through <code>pshared</code>.</p>\n<ul>\n\
         <li><a href=\"/count\">/count</a> counts its requests over all workers</li>\n\
         <li><a href=\"/primes?below=1000000\">/primes?below=N</a> is expensive to compute and cached for all workers</li>\n\
         <li><a href=\"/metrics\">/metrics</a> is for Prometheus: totals over all workers, including dead ones</li>\n\
         <li><a href=\"/workers\">/workers</a> shows the state of each worker</li>\n</ul>\n",
    )
}

/// `/workers`
pub fn workers(state: &SharedState) -> String {
    let mut body = String::new();
    let durations = Durations::of(state.workers.slots().map(|slot| &slot.data.durations));
    let age = clock::seconds_since(state.started.load(Relaxed));
    let at_most = |share| {
        durations
            .quantile(share)
            .map_or("–".to_owned(), |bound| span(bound as f64 / 1e9))
    };
    let figures = [
        ("requests", grouped(state.answered())),
        ("half took at most", at_most(0.5)),
        ("99 % took at most", at_most(0.99)),
        ("workers died", grouped(state.deaths())),
        ("killed as stuck", grouped(state.stuck.get())),
        ("count of /count", grouped(state.hits.get())),
    ];
    let closing = if state.closing.load(Relaxed) {
        " and is shutting down"
    } else {
        ""
    };
    let _ = write!(
        body,
        "<h1>Workers</h1>\n<p>Supervisor {} has run for {}{closing}. Worker process {} read all of these values from shared memory.</p>\n<dl class=\"figures\">\n",
        state.supervisor.load(Relaxed),
        span(age),
        std::process::id(),
    );
    for (name, figure) in figures {
        let _ = writeln!(body, "<div><dt>{name}</dt><dd>{figure}</dd></div>");
    }
    body.push_str("</dl>\n");
    body.push_str(&slots(state));
    body.push_str(&locks(state));
    page("prefork: workers", true, &body)
}

fn slots(state: &SharedState) -> String {
    let mut table = String::from(
        "<table>\n<thead><tr><th class=\"n\">slot</th><th class=\"n\">process</th><th>state</th><th class=\"n\">requests</th><th class=\"n\">slot total</th><th class=\"n\">age</th><th class=\"n\">heartbeat age</th><th class=\"n\">deaths</th><th>holds</th></tr></thead>\n<tbody>\n",
    );
    let used = state.workers.slots().filter(|slot| {
        slot.state != SlotState::Free || slot.data.answered() > 0 || slot.data.deaths.get() > 0
    });
    for slot in used {
        row(&mut table, state, &slot);
    }
    table.push_str("</tbody>\n</table>\n");
    table
}

fn row(table: &mut String, state: &SharedState, slot: &SlotView<'_, Worker>) {
    let worker = slot.data;
    let (class, owner, condition) = match slot.state {
        SlotState::Occupied { by } => ("", by, worker.activity().name()),
        SlotState::Abandoned { by } => ("dead", by, "died"),
        _ => ("free", None, "free"),
    };
    let process = owner.map_or("–".to_owned(), |Holder { process, .. }| {
        process.to_string()
    });
    let is_occupied = matches!(slot.state, SlotState::Occupied { .. });
    let of_this = |text: String| if is_occupied { text } else { "–".to_owned() };
    let held: Vec<&str> = state
        .holders()
        .filter(|(_, process)| is_occupied && owner.is_some_and(|owner| owner.process == *process))
        .map(|(lock, _)| lock)
        .collect();
    let _ = writeln!(
        table,
        "<tr class=\"{class}\"><td class=\"n\">{}</td><td class=\"n\">{process}</td><td>{condition}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
        slot.number,
        of_this(grouped(worker.answered_by_current())),
        grouped(worker.answered()),
        of_this(span(worker.age())),
        of_this(span(worker.silence())),
        worker.deaths.get(),
        held.join(", "),
    );
}

fn locks(state: &SharedState) -> String {
    let mut table = String::from(
        "<table>\n<thead><tr><th>shared</th><th class=\"n\">owner</th><th class=\"n\">deaths reported</th></tr></thead>\n<tbody>\n",
    );
    let holders: Vec<_> = state.holders().collect();
    let reported = &state.reported;
    for (name, count) in [
        ("the accept lock", reported.accept.get()),
        ("the rate limiter", reported.limiter.get()),
        ("the cache", reported.cache.get()),
    ] {
        let holder = holders.iter().find(|(lock, _)| *lock == name);
        let holder = holder.map_or("none".to_owned(), |(_, process)| process.to_string());
        let _ = writeln!(
            table,
            "<tr><td>{name}</td><td class=\"n\">{holder}</td><td class=\"n\">{count}</td></tr>"
        );
    }
    let _ = writeln!(
        table,
        "<tr><td>accept permits</td><td class=\"n\">{} free</td><td></td></tr>\n<tr><td>worker slots</td><td></td><td class=\"n\">{}</td></tr>",
        state.acceptors.available(),
        reported.slot.get()
    );
    table.push_str("</tbody>\n</table>\n");
    table
}

/// Formats a number with its digits grouped by thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a time in seconds with a suitable unit.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}
