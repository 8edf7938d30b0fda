//! Axes: the positions of values and of ticks.

use super::text;

/// An axis: the positions of its values and ticks.
#[derive(Debug, Clone)]
pub struct Axis {
    pub log: bool,
    /// The range as drawn: logarithms if `log`.
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    pub unit: String,
}

impl Axis {
    /// Returns `None` if there is nothing to draw.
    pub fn new(values: impl IntoIterator<Item = f64>, unit: &str, log: bool) -> Option<Self> {
        let values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.abs() < 1e30)
            .collect();
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A share is shown in relation to the whole.
        let max = if unit == "min/max" { max.max(1.0) } else { max };
        if values.is_empty() {
            return None;
        }
        let positive = values
            .iter()
            .copied()
            .filter(|value| *value > 0.0)
            .fold(f64::INFINITY, f64::min);
        let unit = unit.to_owned();
        if !log || !positive.is_finite() {
            let high = if max > 0.0 { max } else { 1.0 };
            let step = step(high / 4.0);
            let count = (high / step).ceil().clamp(1.0, 20.0);
            let ticks = (0..=count as u32)
                .map(|tick| f64::from(tick) * step)
                .collect();
            return Some(Axis {
                log: false,
                low: 0.0,
                high: count * step,
                ticks,
                unit,
            });
        }
        // Begins half a step below the lowest value, so that its bar has a length.
        let (low, high) = ((positive / 1.6).log10(), (max * 1.1).log10());
        Some(
            Axis {
                log: true,
                low,
                high,
                ticks: Vec::new(),
                unit,
            }
            .marked(),
        )
    }

    fn marked(mut self) -> Self {
        let steps: &[f64] = match self.high - self.low {
            decades if decades > 3.2 => &[1.0],
            decades if decades > 1.2 => &[1.0, 3.0],
            _ => &[1.0, 2.0, 5.0],
        };
        self.ticks = (self.low.floor() as i32..=self.high.ceil() as i32)
            .flat_map(|decade| {
                steps
                    .iter()
                    .map(move |step| f64::from(decade) + step.log10())
            })
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect();
        self
    }

    /// Limits the lower end of the axis. Values below it are drawn at the edge.
    pub fn not_below(mut self, value: f64) -> Self {
        if self.log && value > 0.0 && value.log10() < self.high {
            self.low = self.low.max(value.log10());
            return self.marked();
        }
        self
    }

    /// Returns the position of a value. A value beyond the axis is placed at the edge.
    pub fn at(&self, value: f64) -> f64 {
        let at = match self.log {
            true if value > 0.0 => value.log10(),
            true => self.low,
            false => value,
        };
        at.clamp(self.low, self.high)
    }

    pub fn is_below(&self, value: f64) -> bool {
        self.log && !(value > 0.0 && value.log10() >= self.low)
    }

    pub fn label(&self, at: f64) -> String {
        text::tick(if self.log { 10f64.powf(at) } else { at }, &self.unit)
    }

    /// Thins out the ticks so that about `count` remain: keeps only powers of ten on a log axis,
    /// then every n-th tick.
    pub fn at_most(mut self, count: usize) -> Self {
        let whole = |tick: &f64| (tick - tick.round()).abs() < 1e-9;
        if self.log
            && self.ticks.len() > count
            && self.ticks.iter().filter(|tick| whole(tick)).count() > 1
        {
            self.ticks.retain(whole);
        }
        // Keep the last tick if possible.
        let steps = self.ticks.len().saturating_sub(1);
        let fits = |every: &usize| steps / every < count.max(2);
        let every = (1..=steps)
            .filter(fits)
            .find(|every| self.log || steps.is_multiple_of(*every))
            .unwrap_or(1);
        self.ticks = self.ticks.into_iter().step_by(every).collect();
        self
    }
}

/// Returns the next of 1, 2, 2.5, 5 and their multiples by powers of ten.
fn step(rough: f64) -> f64 {
    let ten = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .map(|step| step * ten)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * ten)
}
