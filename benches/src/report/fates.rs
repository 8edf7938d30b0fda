//! What happens to the other processes after a holder is killed, and what failed without a kill.

use super::stats::Run;
use super::text::{self, code};

/// What happened to the other processes when the holder was killed, ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Reported,
    Silent,
    Hangs,
    Broken,
}

impl Fate {
    pub fn of(verdict: &str) -> Option<Self> {
        match verdict.split([':', ' ', ',']).next()? {
            "told" => Some(Fate::Reported),
            "silent" => Some(Fate::Silent),
            "hangs" => Some(Fate::Hangs),
            "BROKEN" => Some(Fate::Broken),
            _ => None,
        }
    }
}

/// How often each fate occurred.
#[derive(Debug, Default)]
pub struct Fates {
    pub counts: [usize; 4],
    /// Verdicts that are none of these, unchanged.
    pub others: Vec<String>,
}

impl Fates {
    /// Returns ` (1 of 5)`, or an empty string if every verdict was this fate.
    pub fn often(&self, fate: Fate) -> String {
        let (count, total) = (
            self.counts[fate as usize],
            self.counts.iter().sum::<usize>(),
        );
        if count < total {
            format!(" ({count} of {total})")
        } else {
            String::new()
        }
    }

    pub fn worst(&self) -> Option<Fate> {
        let all = [Fate::Broken, Fate::Hangs, Fate::Silent, Fate::Reported];
        all.into_iter().find(|fate| self.counts[*fate as usize] > 0)
    }
}

pub fn of(run: &Run, contender: &str) -> Fates {
    let mut fates = Fates::default();
    let spots = run
        .spots("crash")
        .filter(|(spot, _)| spot.contender == contender);
    for verdict in spots.flat_map(|(_, found)| found.verdicts()) {
        let Some(fate) = Fate::of(verdict) else {
            fates.others.push((*verdict).to_owned());
            continue;
        };
        fates.counts[fate as usize] += 1;
    }
    fates
}

/// Returns the sentences, as HTML.
pub fn sentences(run: &Run) -> Vec<String> {
    crash(run).into_iter().chain(failures(run)).collect()
}

fn crash(run: &Run) -> Option<String> {
    let contenders_with = |fate: Fate| -> Vec<String> {
        run.contenders
            .iter()
            .filter(|contender| of(run, contender.name).worst() == Some(fate))
            .map(code)
            .collect()
    };
    let parts: Vec<String> = [
        (Fate::Reported, "receives an error with"),
        (Fate::Silent, "acquires the lock without an error with"),
        (Fate::Hangs, "waits forever with"),
    ]
    .into_iter()
    .map(|(fate, words)| (words, contenders_with(fate)))
    .filter(|(_, names)| !names.is_empty())
    .map(|(words, names)| format!("{words} {}", text::list(&names)))
    .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "When the holder is killed, the next locker {}. The worst result of each lock counts.",
            parts.join("; ")
        )
    })
}

/// Returns sentences about the failures, because a reader must not choose those locks.
fn failures(run: &Run) -> Vec<String> {
    let names = |failed: &[&str]| -> Vec<String> {
        run.contenders
            .iter()
            .filter(|contender| failed.contains(&contender.name))
            .map(code)
            .collect()
    };
    let broken: Vec<&str> = run.broken().map(|(spot, _)| spot.contender).collect();
    let hanging: Vec<&str> = run.hanging().map(|spot| spot.contender).collect();
    let say = |word: &str, names: Vec<String>, what: &str| {
        (!names.is_empty()).then(|| {
            format!(
                "<strong class=\"bad\">{word}:</strong> {} {what}",
                text::list(&names)
            )
        })
    };
    let broken = say(
        "BROKEN",
        names(&broken),
        "did not exclude, or lost a write, in the cells marked so. The figures of these cells are not shown.",
    );
    let hanging = say(
        "HANGS",
        names(&hanging),
        "hung although no process was killed, in the cells marked so.",
    );
    broken.into_iter().chain(hanging).collect()
}
