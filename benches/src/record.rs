//! What a run found: one row a figure a round, as it stands in the CSV file. The table and the page are made from nothing
//! else, so that they can be made again from a file.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};

/// A figure of one round, or a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `uncontended`, `contended`, `handoff`, `many locks`, `deaths`, `crash`.
    pub workload: String,
    /// The contender's name, as the command line takes it.
    pub contender: String,
    /// Where it comes from: `pshared`, `glibc`, `kernel`, `crate`, or `in-process` for what does not work across processes.
    pub family: String,
    /// How many processes ran at once.
    pub processes: u32,
    /// Work inside the section, ns.
    pub inside_ns: u32,
    /// Work outside, ns.
    pub outside_ns: u32,
    /// Where the processes may run: `all CPUs` or `one CPU`.
    pub placement: String,
    /// The round of the run, from 0.
    pub round: u32,
    /// `throughput`, `fairness`, `cpu`, `p50`, `p99`, `p99.9`, `max`, `round trip`, `recovery`, `verdict`.
    pub figure: String,
    /// `Mops/s`, `min/max`, `s/Mop`, `ns`, or empty for a verdict.
    pub unit: String,
    /// A number; for a verdict `ok`, `BROKEN: ...`, `told`, `silent`, `hangs`.
    pub value: String,
}

impl Row {
    /// The value as a number, unless it is a verdict.
    pub fn number(&self) -> Option<f64> {
        self.value.parse().ok()
    }
}

/// A run: what it ran on, and its rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// `machine`, `CPUs`, `kernel`, `libc`, `rustc`, `commit`, `date`, `command`, in this order.
    pub about: Vec<(String, String)>,
    /// One for each figure of each contender, cell and round.
    pub rows: Vec<Row>,
}

impl Record {
    /// Lines `# key: value`, then the CSV.
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

    /// Reads what [`write`](Self::write) wrote.
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
