//! A chart of one figure for many contenders: a bar for each, the best at the top.

use super::axis::Axis;
use super::contenders::Contender;
use super::plot::{self, Area, Drawn, HPos, Ink};
use super::stats::Stat;
use super::text;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

pub struct Bar<'a> {
    pub contender: Contender<'a>,
    /// The figure, or the word to show instead.
    pub stat: Result<&'a Stat, &'static str>,
}

pub const ROW: i32 = 22;
const BOTTOM: u32 = 42;
const TOP: u32 = 6;

/// Returns the chart, or `None` if there is nothing to draw. Set `log` for figures that may differ
/// by powers of ten.
pub fn chart(label: &str, mut bars: Vec<Bar>, more_is_better: bool, log: bool) -> Option<String> {
    let stats = || bars.iter().filter_map(|bar| bar.stat.ok());
    let unit = &stats().next()?.unit;
    let (low, high) = (stats().map(|stat| stat.low), stats().map(|stat| stat.high));
    let (low, high) = (low.fold(f64::INFINITY, f64::min), high.fold(0.0, f64::max));
    // Bars that begin at zero show more, as long as the short ones are visible.
    let log = log && high > 8.0 * low;
    let axis = Axis::new([low, high], unit, log)?;
    let key = |bar: &Bar| {
        bar.stat.ok().map(|stat| {
            if more_is_better {
                -stat.median
            } else {
                stat.median
            }
        })
    };
    bars.sort_by(|a, b| {
        key(a)
            .unwrap_or(f64::INFINITY)
            .total_cmp(&key(b).unwrap_or(f64::INFINITY))
    });
    Some(plot::svgs(
        label,
        |area, _| draw(area, &axis, &bars),
        |_| height(bars.len(), TOP),
    ))
}

pub fn height(rows: usize, top: u32) -> u32 {
    u32::try_from(rows).unwrap_or(0) * ROW.unsigned_abs() + BOTTOM + top
}

pub type Rows<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws an area with a row for each contender: names on the left, the axis below. Rows are counted
/// from the top.
pub fn rows<'a, 'b>(
    area: &'a Area<'b>,
    axis: &Axis,
    names: &[Contender],
    (right, top): (u32, u32),
) -> Result<Rows<'a, 'b>, Box<dyn std::error::Error>> {
    let width = area.dim_in_pixel().0;
    let left = u32::try_from(plot::name_width(
        names.iter().map(|contender| contender.name),
    ))? + 10;
    let axis = axis
        .clone()
        .at_most(usize::try_from((width - left - right) / 40)?);
    // The plot is upside down because its first row is at the top. The mesh is drawn by hand to
    // place the ticks.
    let chart = ChartBuilder::on(area)
        .margin_top(top)
        .margin_right(right)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(left)
        .build_cartesian_2d(axis.low..axis.high, names.len() as f64..0.0)?;
    let bottom = chart.backend_coord(&(axis.low, names.len() as f64)).1;
    for &tick in &axis.ticks {
        let x = chart.backend_coord(&(tick, 0.0)).0;
        let top = i32::try_from(top)?;
        area.draw(&PathElement::new(
            vec![(x, top), (x, bottom)],
            Ink::Grid.colour(),
        ))?;
        plot::write(
            area,
            &axis.label(tick),
            (x, bottom + 11),
            11.5,
            Ink::Muted.colour(),
            false,
            HPos::Center,
        )?;
    }
    let middle = i32::try_from((left + width - right) / 2)?;
    let words = text::axis(&axis.unit, axis.log);
    plot::below(area, &words, (middle, bottom + 30))?;
    let left = i32::try_from(left)?;
    for (row, contender) in names.iter().enumerate() {
        let y = chart.backend_coord(&(axis.low, row as f64 + 0.5)).1;
        let ink = if contender.own {
            plot::colour(contender, false)
        } else {
            Ink::Text.colour()
        };
        let name = plot::fit(contender.name, left - 8);
        plot::write(
            area,
            &name,
            (left - 8, y),
            11.5,
            ink,
            contender.own,
            HPos::Right,
        )?;
    }
    Ok(chart)
}

fn draw(area: &Area, axis: &Axis, bars: &[Bar]) -> Drawn {
    let names: Vec<Contender> = bars.iter().map(|bar| bar.contender).collect();
    let chart = rows(area, axis, &names, (62, TOP))?;
    for (row, bar) in bars.iter().enumerate() {
        let (x0, y) = chart.backend_coord(&(axis.low, row as f64 + 0.5));
        let stat = match bar.stat {
            Ok(stat) => stat,
            Err(word) => {
                plot::write(
                    area,
                    word,
                    (x0 + 5, y),
                    11.5,
                    Ink::Bad.colour(),
                    true,
                    HPos::Left,
                )?;
                continue;
            }
        };
        let pixel = |value: f64| chart.backend_coord(&(axis.at(value), 0.0)).0;
        let x = pixel(stat.median).max(x0 + 1);
        let half = if bar.contender.own { 8 } else { 6 };
        let ink = plot::colour(&bar.contender, false);
        // Hollow bars mark locks that do not work between processes.
        let style = if bar.contender.across_processes() {
            ink.mix(0.8).filled()
        } else {
            ink.stroke_width(1)
        };
        area.draw(&Rectangle::new([(x0, y - half), (x, y + half)], style))?;
        let (low, high) = (pixel(stat.low), pixel(stat.high));
        if high - low > 1 {
            let text = Ink::Text.colour().mix(0.75).stroke_width(1);
            area.draw(&PathElement::new(vec![(low, y), (high, y)], text))?;
            for end in [low, high] {
                area.draw(&PathElement::new(vec![(end, y - 3), (end, y + 3)], text))?;
            }
        }
        let value = text::beside(stat.median, &stat.unit);
        let own = bar.contender.own;
        plot::write(
            area,
            &value,
            (x.max(high) + 6, y),
            11.5,
            Ink::Text.colour(),
            own,
            HPos::Left,
        )?;
    }
    Ok(())
}
