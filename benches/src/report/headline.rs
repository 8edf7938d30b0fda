//! The findings as sentences. Each is made from the rows. If the rows lack the data for a sentence,
//! it is left out.

use super::contenders::Contender;
use super::fates::{self, Fate};
use super::stats::{Cell, Found, Run, Stat};
use super::text::{self, escape};
use std::borrow::Cow;

/// How the lock that the page is about compares with a rival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ahead,
    Behind,
    /// The rounds of both overlap.
    Unknown,
}

/// Returns the sentences, as HTML.
pub fn sentences(run: &Run) -> Vec<String> {
    let own = run.contenders.iter().find(|contender| contender.own);
    let compared = own.map(|own| {
        [
            throughput, beside, everywhere, tail, alone, recovery, handoff,
        ]
        .map(|say| say(run, own))
    });
    let compared = compared.into_iter().flatten().flatten();
    let once = run.rounds() == 1;
    let once =
        once.then(|| "These results are of one round, so their variation is unknown.".to_owned());
    compared.chain(fates::sentences(run)).chain(once).collect()
}

/// Returns a lock's median without contention, in ns, from whichever figure holds it.
pub fn uncontended_ns<'f>(found: &'f Found) -> Option<Cow<'f, Stat>> {
    let ns = ["p50", "round trip", "uncontended", "latency"]
        .into_iter()
        .filter_map(|figure| found.stat(figure));
    if let Some(stat) = ns.into_iter().find(|stat| stat.unit == "ns") {
        return Some(Cow::Borrowed(stat));
    }
    let rate = found
        .stat("throughput")
        .filter(|stat| stat.unit == "Mops/s" && stat.low > 0.0)?;
    let (median, low, high) = (1e3 / rate.median, 1e3 / rate.high, 1e3 / rate.low);
    Some(Cow::Owned(Stat {
        median,
        low,
        high,
        rounds: rate.rounds,
        unit: "ns".to_owned(),
    }))
}

/// Returns the locks that a lock between processes can be compared with: those that were not broken
/// and did not hang without a kill.
fn rivals<'r>(run: &'r Run) -> impl Iterator<Item = &'r Contender<'r>> {
    let sound = |contender: &&Contender| !run.unsound(contender.name);
    run.contenders
        .iter()
        .filter(|contender| !contender.own && contender.across_processes())
        .filter(sound)
}

/// Returns the best of glibc's locks, or the best of the other locks outside this crate if glibc's
/// did not run.
fn best<'r, 's>(
    run: &'r Run,
    more: bool,
    stat: impl Fn(&Contender) -> Option<Cow<'s, Stat>>,
) -> Option<(&'r Contender<'r>, Cow<'s, Stat>, &'static str)> {
    let pick = |family: Option<&str>| {
        rivals(run)
            .filter(|contender| family.is_none_or(|family| contender.family == family))
            .filter(|contender| family.is_some() || contender.family != "pshared")
            .filter_map(|contender| Some((contender, stat(contender)?)))
            .min_by(|(_, a), (_, b)| {
                if more {
                    b.median.total_cmp(&a.median)
                } else {
                    a.median.total_cmp(&b.median)
                }
            })
    };
    let of = |words: &'static str| move |(contender, stat)| (contender, stat, words);
    pick(Some("glibc"))
        .map(of("the best glibc contender"))
        .or_else(|| pick(None).map(of("the best of the other contenders")))
}

fn standing(own: &Stat, rival: &Stat, more: bool) -> Standing {
    match own.median > rival.median {
        _ if own.overlaps(rival) => Standing::Unknown,
        above if above == more => Standing::Ahead,
        _ => Standing::Behind,
    }
}

fn times(own: &Stat, rival: &Stat) -> String {
    let unsure = if own.overlaps(rival) {
        " (the rounds overlap, so the order is uncertain)"
    } else {
        ""
    };
    format!(
        "<strong>{} ×</strong>{{}}{unsure}",
        text::number(own.median / rival.median)
    )
}

/// Returns `2.9 × the operations of ...`. `of` is put after the ratio.
fn ratio(own: &Stat, rival: &Stat, of: &str) -> String {
    times(own, rival).replacen("{}", of, 1)
}

fn name(contender: &Contender) -> String {
    format!("<b>{}</b>", escape(contender.name))
}

/// Returns the cell and the number of processes that the sentences on throughput are about.
fn place<'r>(run: &Run<'r>) -> Option<(Cell<'r>, u32)> {
    Some((run.main_cell("contended")?, run.nearest("contended", 4)?))
}

fn throughput(run: &Run, own: &Contender) -> Option<String> {
    let (cell, processes) = place(run)?;
    let at = format!(
        "at {} ({})",
        text::processes(processes),
        escape(&text::cell(cell))
    );
    let get = |contender: &Contender| {
        run.stat("contended", cell, processes, contender.name, "throughput")
            .map(Cow::Borrowed)
    };
    let ours = get(own)?;
    let Some((rival, theirs, which)) = best(run, true, get) else {
        return Some(format!(
            "{} reached {} {at}.",
            name(own),
            escape(&text::quantity(ours.median, &ours.unit))
        ));
    };
    let of = format!(" the operations of {}, {which}, {at}", text::code(rival));
    Some(format!(
        "{} completed {}: {} against {} {}.",
        name(own),
        ratio(&ours, &theirs, &of),
        text::number(ours.median),
        text::number(theirs.median),
        escape(&ours.unit)
    ))
}

/// Returns a sentence on the lock with the highest throughput. A lock that reports no death saves
/// some work, so the locks that report one are also compared with each other.
fn beside(run: &Run, own: &Contender) -> Option<String> {
    let (cell, processes) = place(run)?;
    let get = |contender: &Contender| {
        run.stat("contended", cell, processes, contender.name, "throughput")
            .map(Cow::Borrowed)
    };
    let ours = get(own)?;
    let fate = |contender: &Contender| fates::of(run, contender.name).worst();
    let most = |robust: bool| {
        rivals(run)
            .filter(|contender| !robust || fate(contender) == Some(Fate::Reported))
            .filter_map(|contender| Some((contender, get(contender)?)))
            .max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
    };
    let (first, theirs) = most(false)?;
    let mut sentence = if theirs.median > ours.median {
        let but = match fate(first) {
            Some(Fate::Hangs) => ", which hangs when its holder is killed",
            Some(Fate::Silent) => ", which reports nothing when its holder is killed",
            _ => "",
        };
        let most = escape(&text::quantity(theirs.median, &theirs.unit));
        format!(
            "The highest throughput there was that of {}{but}: {most}.",
            text::code(first)
        )
    } else {
        "No other lock between processes had a higher throughput there.".to_owned()
    };
    let said = best(run, true, get).map(|(rival, ..)| rival.name);
    if let Some((robust, theirs)) = most(true).filter(|(robust, _)| Some(robust.name) != said) {
        let ratio = ratio(&ours, &theirs, " its operations");
        let name = text::code(robust);
        sentence += &format!(
            " Of the other locks that report a killed holder, {name} had the highest throughput; {} completed {ratio}.",
            text::code(own)
        );
    }
    Some(sentence)
}

/// Compares all cells, because a single cell could be chosen to favour a lock.
fn everywhere(run: &Run, own: &Contender) -> Option<String> {
    let mut counts = [0usize; 3];
    for cell in run.cells("contended") {
        for processes in run
            .processes("contended")
            .into_iter()
            .filter(|processes| *processes > 1)
        {
            let get = |contender: &Contender| {
                run.stat("contended", cell, processes, contender.name, "throughput")
                    .map(Cow::Borrowed)
            };
            if let (Some(ours), Some((_, theirs, _))) = (get(own), best(run, true, get)) {
                counts[standing(&ours, &theirs, true) as usize] += 1;
            }
        }
    }
    let total: usize = counts.iter().sum();
    let [ahead, behind, unknown] = counts;
    (total > 1).then(|| {
        format!(
            "Of all {total} combinations of work and number of processes (two or more), its throughput was above that of the best glibc contender in <strong>{ahead}</strong>, below it in <strong>{behind}</strong>, and indistinguishable from it in {unknown}."
        )
    }).filter(|_| rivals(run).any(|contender| contender.family == "glibc"))
}

fn tail(run: &Run, own: &Contender) -> Option<String> {
    let cell = run.main_cell("contended")?;
    let processes = run.nearest("contended", 8)?;
    let get = |contender: &Contender| {
        run.stat("contended", cell, processes, contender.name, "p99.9")
            .map(Cow::Borrowed)
    };
    let ours = get(own)?;
    let (rival, theirs, which) = best(run, false, get)?;
    Some(format!(
        "One acquire in a thousand took {} or longer at {}: {}.",
        text::quantity(ours.median, &ours.unit),
        text::processes(processes),
        ratio(
            &ours,
            &theirs,
            &format!(" that of {}, {which}", text::code(rival))
        )
    ))
}

fn alone(run: &Run, own: &Contender) -> Option<String> {
    let cell: Cell = run.main_cell("uncontended")?;
    let processes = run.nearest("uncontended", 1)?;
    let get = |contender: &Contender| {
        run.found("uncontended", cell, processes, contender.name)
            .and_then(uncontended_ns)
    };
    let ours = get(own)?;
    let (rival, theirs, which) = best(run, false, get)?;
    Some(format!(
        "Without contention, a lock and unlock took {}: {}.",
        text::quantity(ours.median, &ours.unit),
        ratio(
            &ours,
            &theirs,
            &format!(" that of {}, {which}", text::code(rival))
        )
    ))
}

fn recovery(run: &Run, own: &Contender) -> Option<String> {
    let of = |workload| {
        let (cell, processes) = (run.main_cell(workload)?, run.nearest(workload, 2)?);
        run.stat(workload, cell, processes, own.name, "recovery")
    };
    let stat = of("crash").or_else(|| of("deaths"))?;
    Some(format!(
        "After the holder was killed, the next process acquired the lock within {} (median).",
        text::quantity(stat.median, &stat.unit)
    ))
}

/// The primitive that wakes may be another contender than the lock.
fn handoff(run: &Run, _: &Contender) -> Option<String> {
    let workload = "handoff";
    let (cell, processes) = (run.main_cell(workload)?, run.nearest(workload, 2)?);
    let get = |contender: &Contender| {
        run.stat(workload, cell, processes, contender.name, "round trip")
            .map(Cow::Borrowed)
    };
    let (own, ours) = run
        .contenders
        .iter()
        .filter(|contender| contender.own)
        .find_map(|contender| Some((contender, get(contender)?)))?;
    let (rival, theirs, which) = best(run, false, get)?;
    Some(format!(
        "A round trip between two processes took {} with {} ({}): {}.",
        text::quantity(ours.median, &ours.unit),
        text::code(own),
        escape(&text::place(cell)),
        ratio(
            &ours,
            &theirs,
            &format!(" that of {}, {which}", text::code(rival))
        )
    ))
}
