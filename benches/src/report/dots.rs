//! A chart of several figures of one kind for each contender: marks on a line, for example the
//! percentiles of the time to acquire a lock.

use super::axis::Axis;
use super::bars::{self, Rows};
use super::contenders::Contender;
use super::plot::{self, Area, Drawn, HPos, Ink};
use super::stats::Stat;
use plotters::prelude::*;

pub struct Dots<'a> {
    pub contender: Contender<'a>,
    /// One entry for each figure name.
    pub stats: Vec<Option<&'a Stat>>,
    /// The word to show instead.
    pub failed: Option<&'static str>,
}

const TOP: u32 = 28;

/// Returns the chart, or `None` if there is nothing to draw. The second-to-last figure orders the
/// rows, because a maximum is a single event.
pub fn chart(label: &str, figures: &[&str], mut dots: Vec<Dots>) -> Option<String> {
    let stats = || dots.iter().flat_map(|dots| dots.stats.iter().flatten());
    let unit = &stats().next()?.unit;
    let axis = Axis::new(stats().map(|stat| stat.median), unit, true)?;
    let by = figures.len().saturating_sub(2);
    let key = |dots: &Dots| {
        dots.stats
            .get(by)
            .copied()
            .flatten()
            .map_or(f64::INFINITY, |stat| stat.median)
    };
    dots.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let height = |_| bars::height(dots.len(), TOP);
    Some(plot::svgs(
        label,
        |area, _| draw(area, &axis, figures, &dots),
        height,
    ))
}

fn draw(area: &Area, axis: &Axis, figures: &[&str], dots: &[Dots]) -> Drawn {
    let names: Vec<Contender> = dots.iter().map(|dots| dots.contender).collect();
    let chart = bars::rows(area, axis, &names, (16, TOP))?;
    let mut x = chart.backend_coord(&(axis.low, 0.0)).0 + 6;
    for (kind, figure) in figures.iter().enumerate() {
        plot::mark(area, shape(kind), (x, 12), 4, Ink::Text.colour().filled())?;
        plot::write(
            area,
            figure,
            (x + 9, 12),
            11.5,
            Ink::Text.colour(),
            false,
            HPos::Left,
        )?;
        x += 28 + i32::try_from(figure.len())? * 6;
    }
    for (row, dots) in dots.iter().enumerate() {
        one(area, &chart, axis, row, dots)?;
    }
    Ok(())
}

fn one(area: &Area, chart: &Rows, axis: &Axis, row: usize, dots: &Dots) -> Drawn {
    let at = |value: f64| chart.backend_coord(&(axis.at(value), row as f64 + 0.5));
    if let Some(word) = dots.failed {
        let (x, y) = chart.backend_coord(&(axis.low, row as f64 + 0.5));
        return plot::write(
            area,
            word,
            (x + 5, y),
            11.5,
            Ink::Bad.colour(),
            true,
            HPos::Left,
        );
    }
    let ink = plot::colour(&dots.contender, false);
    let points: Vec<_> = dots
        .stats
        .iter()
        .flatten()
        .map(|stat| at(stat.median))
        .collect();
    let width = if dots.contender.own { 4 } else { 2 };
    area.draw(&PathElement::new(points, ink.mix(0.6).stroke_width(width)))?;
    for (kind, stat) in dots.stats.iter().enumerate() {
        if let Some(stat) = stat {
            let r = if dots.contender.own { 5 } else { 4 };
            plot::mark(area, shape(kind), at(stat.median), r, ink.filled())?;
        }
    }
    Ok(())
}

/// Circle, diamond, triangle, square: distinguishable at a small size.
fn shape(kind: usize) -> usize {
    [0, 3, 2, 1].get(kind).copied().unwrap_or(kind)
}
