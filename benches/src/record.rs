//! The results of a run: one row for each figure and round, as in the CSV file. The tables and the
//! page are made only from these rows, so they can be made again from a file.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};

/// A figure of one round, or a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `uncontended`, `contended`, `handoff`, `many locks`, `deaths`, `crash`.
    pub workload: String,
    /// The contender's name, as on the command line.
    pub contender: String,
    /// The origin: `pshared`, `glibc`, `kernel`, `crate`, or `in-process` for locks that do not
    /// work between processes.
    pub family: String,
    /// The number of processes that ran at once.
    pub processes: u32,
    /// Work inside the critical section, ns.
    pub inside_ns: u32,
    /// Work outside the critical section, ns.
    pub outside_ns: u32,
    /// Where the processes may run: `all CPUs` or `one CPU`.
    pub placement: String,
    /// The round of the run, from 0.
    pub round: u32,
    /// `throughput`, `fairness`, `cpu`, `p50`, `p99`, `p99.9`, `max`, `round trip`, `recovery`,
    /// `verdict`.
    pub figure: String,
    /// `Mops/s`, `min/max`, `s/Mop`, `ns`, or empty for a verdict.
    pub unit: String,
    /// A number, or for a verdict `ok`, `BROKEN: ...`, `told`, `silent`, `hangs`, `failed: ...`.
    pub value: String,
}

impl Row {
    /// Returns the value as a number, or `None` if it is a verdict.
    pub fn number(&self) -> Option<f64> {
        self.value.parse().ok()
    }
}

/// A run: a description of the machine, and the rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// `machine`, `CPUs`, `kernel`, `libc`, `rustc`, `commit`, `date`, `command`, in this order.
    pub about: Vec<(String, String)>,
    /// One for each figure of each contender, cell and round.
    pub rows: Vec<Row>,
}

impl Record {
    /// Writes lines `# key: value`, then the CSV.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for (key, value) in &self.about {
            writeln!(out, "# {key}: {}", value.replace('\n', " "))?;
        }
        let mut csv = csv::Writer::from_writer(out);
        for row in &self.rows {
            csv.serialize(row).map_err(io::Error::other)?;
        }
        csv.flush()
    }

    /// Reads the format that [`write`](Self::write) writes.
    pub fn read(mut input: impl BufRead) -> io::Result<Self> {
        let mut text = String::new();
        input.read_to_string(&mut text)?;
        let about = text
            .lines()
            .map_while(|line| line.strip_prefix("# ")?.split_once(": "))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let rows = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .from_reader(text.as_bytes())
            .deserialize()
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        Ok(Record { about, rows })
    }
}
