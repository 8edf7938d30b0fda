//! The contenders of a record, and how they are distinguished: a colour for the family, a dash and
//! a mark within it.

use super::Row;

/// The families with a colour of their own. Any other family in a record is drawn as `other`.
pub const FAMILIES: [(&str, &str); 6] = [
    ("pshared", "this crate"),
    ("glibc", "glibc"),
    ("kernel", "the kernel, without a library"),
    ("crate", "other crates"),
    ("in-process", "for comparison, in one process only"),
    ("other", "other"),
];

/// The number of dashes in the style sheet. `d0` is a solid line.
const DASHES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender<'a> {
    pub name: &'a str,
    pub family: &'a str,
    /// Whether the page is about this contender: this crate's lock, and for workloads without a
    /// lock this crate's primitive.
    pub own: bool,
    /// Index in `FAMILIES`.
    pub colour: usize,
    /// Index within its family, which selects dash and mark.
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

    /// Returns whether it excludes other processes.
    pub fn across_processes(&self) -> bool {
        self.family != "in-process"
    }

    /// Returns the dash. The lock that the page is about and the first contender of each other
    /// family have a solid line.
    pub fn dash(&self) -> usize {
        match (self.own, self.family) {
            (true, _) => 0,
            (false, "pshared") => 1 + self.nth % (DASHES - 1),
            _ => self.nth % DASHES,
        }
    }
}

/// Returns the index of this crate's contender in these workloads that the page is about:
/// `SharedMutex`, or a robust one, or any.
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
