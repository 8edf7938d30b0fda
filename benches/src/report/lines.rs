//! A chart of throughput over the number of processes: a line for each contender, with its name at
//! the end.

use super::axis::Axis;
use super::contenders::Contender;
use super::plot::{self, Area, Drawn, HPos, Ink};
use super::stats::Stat;
use super::text;
use plotters::prelude::*;

pub struct Line<'a> {
    pub contender: Contender<'a>,
    /// It failed with some number of processes, for which there is no point.
    pub failed: bool,
    /// By number of processes, ascending.
    pub points: Vec<(u32, &'a Stat)>,
}

const LABEL: f64 = 11.5;
/// The distance from one name to the next, so that they do not touch.
const GAP: i32 = 14;
const BOTTOM: u32 = 44;
const TOP: u32 = 26;

/// Returns the chart, and the names of the lines with a point below the axis. Returns `None` if
/// there is nothing to draw.
pub fn chart(label: &str, mut lines: Vec<Line>) -> Option<(String, Vec<String>)> {
    lines.retain(|line| !line.points.is_empty());
    let stats = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|(_, stat)| *stat)
    };
    let unit = &stats().next()?.unit;
    // One lock that collapses would compress all other lines.
    let mut lows: Vec<f64> = stats().map(|stat| stat.low).collect();
    lows.sort_by(f64::total_cmp);
    let most = stats().map(|stat| stat.high).fold(0.0, f64::max);
    let floor = if most > 100.0 * lows[0] {
        lows[lows.len() / 20] / 2.0
    } else {
        0.0
    };
    let axis =
        Axis::new(stats().flat_map(|stat| [stat.low, stat.high]), unit, true)?.not_below(floor);
    let mut counts: Vec<u32> = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(count, _)| *count)
        .collect();
    counts.sort_unstable();
    counts.dedup();
    let names_height = i32::try_from(lines.len()).unwrap_or(0) * GAP;
    let height = |_| u32::try_from(names_height).unwrap_or(0).max(360) + BOTTOM + TOP + 20;
    let below = |line: &&Line| {
        line.points
            .iter()
            .any(|(_, stat)| axis.is_below(stat.median))
    };
    let below = lines
        .iter()
        .filter(below)
        .map(|line| line.contender.name.to_owned())
        .collect();
    Some((
        plot::svgs(
            label,
            |area, width| draw(area, width, &axis, &counts, &lines),
            height,
        ),
        below,
    ))
}

fn draw(area: &Area, width: u32, axis: &Axis, counts: &[u32], lines: &[Line]) -> Drawn {
    let (first, last) = (log2(counts[0]), log2(counts[counts.len() - 1]));
    let sample = if width > 400 { 24 } else { 6 };
    let name_width = plot::name_width(lines.iter().map(|line| line.contender.name));
    let names = u32::try_from(name_width + 25 + sample)?;
    let chart = ChartBuilder::on(area)
        .margin_top(TOP)
        .margin_right(names)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(if width > 400 { 46 } else { 38 })
        .build_cartesian_2d(
            first - 0.12..last.max(first + 0.5) + 0.12,
            axis.low..axis.high,
        )?;
    let (left, bottom) = chart.backend_coord(&(first - 0.12, axis.low));
    let right = i32::try_from(width - names)?;
    for &tick in &axis.ticks {
        let y = chart.backend_coord(&(first, tick)).1;
        area.draw(&PathElement::new(
            vec![(left, y), (right, y)],
            Ink::Grid.colour(),
        ))?;
        plot::write(
            area,
            &axis.label(tick),
            (left - 6, y),
            LABEL,
            Ink::Muted.colour(),
            false,
            HPos::Right,
        )?;
    }
    area.draw(&PathElement::new(
        vec![(left, bottom), (right, bottom)],
        Ink::Muted.colour(),
    ))?;
    for &count in counts {
        let x = chart.backend_coord(&(log2(count), axis.low)).0;
        area.draw(&PathElement::new(
            vec![(x, bottom), (x, bottom + 4)],
            Ink::Muted.colour(),
        ))?;
        plot::write(
            area,
            &count.to_string(),
            (x, bottom + 13),
            LABEL,
            Ink::Muted.colour(),
            false,
            HPos::Center,
        )?;
    }
    // Horizontal and above its axis, because vertical text is hard to read.
    plot::write(
        area,
        &text::axis(&axis.unit, axis.log),
        (4, 9),
        12.0,
        Ink::Text.colour(),
        false,
        HPos::Left,
    )?;
    let middle = (left + right) / 2;
    plot::below(area, "processes, log", (middle, bottom + 32))?;

    let pixel = |count: u32, value: f64| chart.backend_coord(&(log2(count), axis.at(value)));
    // The lock that the page is about is drawn last, over the others.
    let mut order: Vec<&Line> = lines
        .iter()
        .filter(|line| !line.points.is_empty())
        .collect();
    order.sort_by_key(|line| line.contender.own);
    for line in &order {
        spread(area, line, &pixel)?;
        let points: Vec<_> = line
            .points
            .iter()
            .map(|(count, stat)| pixel(*count, stat.median))
            .collect();
        let width = if line.contender.own { 4 } else { 2 };
        let ink = plot::colour(&line.contender, true).stroke_width(width);
        area.draw(&PathElement::new(points.clone(), ink))?;
        let filled = plot::colour(&line.contender, false).filled();
        for (at, (_, stat)) in points.into_iter().zip(&line.points) {
            let size = if line.contender.own { 5 } else { 3 };
            let kind = if axis.is_below(stat.median) {
                plot::DOWN
            } else {
                line.contender.nth
            };
            plot::mark(area, kind, at, size, filled)?;
        }
    }

    let ends: Vec<(i32, i32)> = order
        .iter()
        .filter_map(|line| line.points.last())
        .map(|(count, stat)| pixel(*count, stat.median))
        .collect();
    let at = apart(
        &ends.iter().map(|end| end.1).collect::<Vec<_>>(),
        i32::try_from(TOP)?,
        bottom + 4,
    );
    for ((line, end), y) in order.iter().zip(ends).zip(at) {
        // From the end of the line to its name: names are moved apart, and some lines end early.
        let ink = plot::colour(&line.contender, false);
        let from = (right - 6).max(end.0 + 4);
        if from > end.0 + 6 {
            area.draw(&PathElement::new(
                vec![end, (from, end.1)],
                plot::lead(&line.contender).mix(0.6).stroke_width(1),
            ))?;
        }
        area.draw(&PathElement::new(
            vec![(from, end.1), (right + 18, y)],
            ink.mix(0.6).stroke_width(1),
        ))?;
        // A sample of the line with its dash and mark, if there is room for it.
        if width > 400 {
            let dashed = plot::colour(&line.contender, true).stroke_width(2);
            area.draw(&PathElement::new(
                vec![(right + 18, y), (right + 18 + sample, y)],
                dashed,
            ))?;
        }
        plot::mark(
            area,
            line.contender.nth,
            (right + 18 + sample / 2, y),
            3,
            ink.filled(),
        )?;
        let name = if line.failed {
            format!("✗ {}", line.contender.name)
        } else {
            line.contender.name.to_owned()
        };
        let name = plot::fit(&name, name_width);
        let ink = match (line.contender.own, line.failed) {
            (_, true) => Ink::Bad.colour(),
            (true, _) => ink,
            _ => Ink::Text.colour(),
        };
        plot::write(
            area,
            &name,
            (right + 23 + sample, y),
            LABEL,
            ink,
            line.contender.own,
            HPos::Left,
        )?;
    }
    Ok(())
}

/// Draws the range of the rounds: a band for the lock that the page is about, thin bars for the
/// others.
fn spread(area: &Area, line: &Line, pixel: &impl Fn(u32, f64) -> (i32, i32)) -> Drawn {
    let ink = plot::colour(&line.contender, false);
    if line.contender.own {
        let above = line
            .points
            .iter()
            .map(|(count, stat)| pixel(*count, stat.high));
        let below = line
            .points
            .iter()
            .rev()
            .map(|(count, stat)| pixel(*count, stat.low));
        area.draw(&Polygon::new(
            above.chain(below).collect::<Vec<_>>(),
            ink.mix(0.2).filled(),
        ))?;
        return Ok(());
    }
    for (count, stat) in &line.points {
        let bar = vec![pixel(*count, stat.low), pixel(*count, stat.high)];
        area.draw(&PathElement::new(bar, ink.mix(0.55).stroke_width(1)))?;
    }
    Ok(())
}

/// Returns the heights of the names, each as near to its wanted height as the others allow.
fn apart(wanted: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&index| wanted[index]);
    // Names that touch form a block, which is centered on the heights that its names want.
    let mut blocks: Vec<(Vec<usize>, i32)> = Vec::new();
    let start = |members: &[usize]| {
        let offsets = members
            .iter()
            .enumerate()
            .map(|(row, &index)| wanted[index] - row as i32 * GAP);
        let mean = offsets.sum::<i32>() / members.len() as i32;
        mean.min(bottom - (members.len() as i32 - 1) * GAP).max(top)
    };
    for index in order {
        let mut members = vec![index];
        let mut at = start(&members);
        while let Some((above, above_at)) = blocks.pop() {
            if above_at + above.len() as i32 * GAP <= at {
                blocks.push((above, above_at));
                break;
            }
            members.splice(0..0, above);
            at = start(&members);
        }
        blocks.push((members, at));
    }
    let mut at = vec![0; wanted.len()];
    for (members, start) in blocks {
        for (row, index) in members.into_iter().enumerate() {
            at[index] = start + row as i32 * GAP;
        }
    }
    at
}

fn log2(count: u32) -> f64 {
    f64::from(count.max(1)).log2()
}
