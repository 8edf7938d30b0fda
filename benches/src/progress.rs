//! Shows the progress of the run: a bar on a terminal, otherwise a line at intervals.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// The minimum time between two lines.
const INTERVAL: Duration = Duration::from_secs(15);

pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    last_line: Instant,
    total: Duration,
    done: Duration,
}

impl Progress {
    /// Creates a progress bar. `total` is the sum of the jobs' costs.
    pub fn new(total: Duration) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {eta} left  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        // The bar redraws only on updates. A ticker thread would forbid the parent to fork.
        let bar = ProgressBar::new(total.as_millis() as u64).with_style(style);
        let now = Instant::now();
        Progress {
            bar,
            began: now,
            last_line: now,
            total,
            done: Duration::ZERO,
        }
    }

    pub fn start(&mut self, what: String) {
        if self.bar.is_hidden() && self.last_line.elapsed() >= INTERVAL {
            self.last_line = Instant::now();
            eprintln!("{what}; about {} left", self.left());
        }
        self.bar.set_message(what);
    }

    pub fn done(&mut self, cost: Duration) {
        self.done += cost;
        self.bar.set_position(self.done.as_millis() as u64);
    }

    /// Prints a line above the bar.
    pub fn print_line(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn left(&self) -> String {
        let done = self.done.as_secs_f64().max(0.001);
        let left = (self.total.saturating_sub(self.done)).as_secs_f64();
        in_words(Duration::from_secs_f64(
            left * self.began.elapsed().as_secs_f64() / done,
        ))
    }
}

/// Formats a duration in seconds or minutes.
pub fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 100 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
