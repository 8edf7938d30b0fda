//! Who ran, and how each is told from the others: a colour for the family, a dash and a mark within it.

use super::Row;

/// The families that have a colour of their own; whatever else a record names is drawn as `other`.
pub const FAMILIES: [(&str, &str); 6] = [
    ("pshared", "this crate"),
    ("glibc", "glibc"),
    ("kernel", "the kernel, without a library"),
    ("crate", "other crates"),
    ("in-process", "for comparison, in one process only"),
    ("other", "other"),
];

/// How many dashes the style sheet knows; `d0` is a full line.
const DASHES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender<'a> {
    pub name: &'a str,
    pub family: &'a str,
    /// The lock that the page is about; where nothing is locked, what this crate has instead.
    pub own: bool,
    /// Index in `FAMILIES`.
    pub colour: usize,
    /// The how manyeth of its family it is, which picks dash and mark.
    pub nth: usize,
}

impl<'a> Contender<'a> {
    pub fn all(rows: &'a [Row]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for row in rows {
            if all.iter().any(|known| known.name == row.contender) {
                continue;
            }
            let other = FAMILIES.len() - 1;
            let colour = FAMILIES
                .iter()
                .position(|(name, _)| *name == row.family)
                .unwrap_or(other);
            let nth = all.iter().filter(|known| known.colour == colour).count();
            all.push(Contender {
                name: &row.contender,
                family: &row.family,
                own: false,
                colour,
                nth,
            });
        }
        let locks = own(&all, rows, |workload| workload != "handoff");
        let wakes = own(&all, rows, |workload| workload == "handoff");
        for own in locks.into_iter().chain(wakes) {
            all[own].own = true;
        }
        all
    }

    /// Whether it excludes other processes at all.
    pub fn across_processes(&self) -> bool {
        self.family != "in-process"
    }

    /// A full line is for the lock that the page is about, and for the first of the other families.
    pub fn dash(&self) -> usize {
        match (self.own, self.family) {
            (true, _) => 0,
            (false, "pshared") => 1 + self.nth % (DASHES - 1),
            _ => self.nth % DASHES,
        }
    }
}

/// Which of this crate's contenders in these workloads the page is about: the robust one, as it is the default.
fn own(all: &[Contender], rows: &[Row], workload: impl Fn(&str) -> bool) -> Option<usize> {
    let ours = |contender: &Contender| {
        let ran = |row: &Row| row.contender == contender.name && workload(&row.workload);
        contender.family == "pshared" && rows.iter().any(ran)
    };
    let named = |wanted: &str| {
        all.iter()
            .position(|contender| ours(contender) && contender.name == wanted)
    };
    let robust = || {
        all.iter()
            .position(|contender| ours(contender) && contender.name.contains("robust"))
    };
    named("SharedMutex")
        .or_else(robust)
        .or_else(|| all.iter().position(ours))
}
