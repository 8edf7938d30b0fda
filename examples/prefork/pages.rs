//! The pages that people read. Nothing in them comes from a client.

use super::board::{Board, Worker};
use super::clock;
use super::histogram::Durations;
use pshared::{Holder, SeatState, SeatView};
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
        "<h1>prefork</h1>\n<p>A forking server whose workers share memory, by <code>pshared</code>.</p>\n<ul>\n\
         <li><a href=\"/count\">/count</a> counts its visits, over all workers</li>\n\
         <li><a href=\"/primes?below=1000000\">/primes?below=N</a> is dear to make, and cached for all workers</li>\n\
         <li><a href=\"/metrics\">/metrics</a> is for Prometheus: totals over all workers, the dead included</li>\n\
         <li><a href=\"/workers\">/workers</a> shows who does what</li>\n</ul>\n",
    )
}

/// `/workers`
pub fn workers(board: &Board) -> String {
    let mut body = String::new();
    let durations = Durations::of(board.workers.seats().map(|seat| &seat.data.durations));
    let age = clock::seconds_since(board.started.load(Relaxed));
    let at_most = |share| {
        durations
            .quantile(share)
            .map_or("–".to_owned(), |bound| span(bound as f64 / 1e9))
    };
    let figures = [
        ("requests", grouped(board.answered())),
        ("half took at most", at_most(0.5)),
        ("99 % took at most", at_most(0.99)),
        ("workers died", grouped(board.deaths())),
        ("killed as stuck", grouped(board.stuck.get())),
        ("visits of /count", grouped(board.hits.get())),
    ];
    let closing = if board.closing.load(Relaxed) {
        ", and lets nobody in any more"
    } else {
        ""
    };
    let _ = write!(
        body,
        "<h1>Workers</h1>\n<p>Supervisor {} has run for {}{closing}. All of this is read from shared memory by one worker, process {}.</p>\n<dl class=\"figures\">\n",
        board.supervisor.load(Relaxed),
        span(age),
        std::process::id(),
    );
    for (name, figure) in figures {
        let _ = writeln!(body, "<div><dt>{name}</dt><dd>{figure}</dd></div>");
    }
    body.push_str("</dl>\n");
    body.push_str(&seats(board));
    body.push_str(&locks(board));
    page("prefork: workers", true, &body)
}

fn seats(board: &Board) -> String {
    let mut table = String::from(
        "<table>\n<thead><tr><th class=\"n\">seat</th><th class=\"n\">process</th><th>state</th><th class=\"n\">requests</th><th class=\"n\">of the seat</th><th class=\"n\">age</th><th class=\"n\">silent for</th><th class=\"n\">deaths</th><th>holds</th></tr></thead>\n<tbody>\n",
    );
    let used = board.workers.seats().filter(|seat| {
        seat.state != SeatState::Free || seat.data.answered() > 0 || seat.data.deaths.get() > 0
    });
    for seat in used {
        row(&mut table, board, &seat);
    }
    table.push_str("</tbody>\n</table>\n");
    table
}

fn row(table: &mut String, board: &Board, seat: &SeatView<'_, Worker>) {
    let worker = seat.data;
    let (class, who, state) = match seat.state {
        SeatState::Occupied { by } => ("", by, worker.doing().name()),
        SeatState::Vacated { by } => ("dead", by, "died"),
        _ => ("free", None, "free"),
    };
    let process = who.map_or("–".to_owned(), |Holder { process, .. }| {
        process.to_string()
    });
    let sits = matches!(seat.state, SeatState::Occupied { .. });
    let of_this = |text: String| if sits { text } else { "–".to_owned() };
    let held: Vec<&str> = board
        .holders()
        .filter(|(_, process)| sits && who.is_some_and(|who| who.process == *process))
        .map(|(lock, _)| lock)
        .collect();
    let _ = writeln!(
        table,
        "<tr class=\"{class}\"><td class=\"n\">{}</td><td class=\"n\">{process}</td><td>{state}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
        seat.number,
        of_this(grouped(worker.answered_by_this_one())),
        grouped(worker.answered()),
        of_this(span(worker.age())),
        of_this(span(worker.silence())),
        worker.deaths.get(),
        held.join(", "),
    );
}

fn locks(board: &Board) -> String {
    let mut table = String::from(
        "<table>\n<thead><tr><th>shared</th><th class=\"n\">held by</th><th class=\"n\">deaths told and mended</th></tr></thead>\n<tbody>\n",
    );
    let holders: Vec<_> = board.holders().collect();
    let told = &board.told;
    for (name, told) in [
        ("the turn to accept", told.accept.get()),
        ("the rate limiter", told.limiter.get()),
        ("the cache", told.cache.get()),
    ] {
        let holder = holders.iter().find(|(lock, _)| *lock == name);
        let holder = holder.map_or("nobody".to_owned(), |(_, process)| process.to_string());
        let _ = writeln!(
            table,
            "<tr><td>{name}</td><td class=\"n\">{holder}</td><td class=\"n\">{told}</td></tr>"
        );
    }
    let _ = writeln!(
        table,
        "<tr><td>permits to accept</td><td class=\"n\">{} free</td><td></td></tr>\n<tr><td>seats</td><td></td><td class=\"n\">{}</td></tr>",
        board.acceptors.available(),
        told.seat.get()
    );
    table.push_str("</tbody>\n</table>\n");
    table
}

/// A number with its thousands apart.
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

/// A time that a person can read.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}
