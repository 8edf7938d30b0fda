//! The parts that all charts share: the SVG backend, inks and marks.
//!
//! The backend writes a colour into each shape, and a fixed colour cannot follow the reader's light
//! or dark colour scheme. The charts are therefore drawn with placeholder colours: `#01cc00` is the
//! ink number `cc`, `#02ccdd` is colour `cc` with dash `dd`. Afterwards each placeholder is
//! replaced by the classes `inkN`, `cN` and `dN`, and the style sheet defines their appearance.

use super::contenders::Contender;
use super::text::escape;
use plotters::coord::Shift;
use plotters::prelude::*;

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Each chart is drawn for a desktop and for a phone, because a chart that is only scaled down is
/// unreadable on a phone. The style sheet shows one of the two.
pub const WIDTHS: [(&str, u32); 2] = [("wide", 580), ("narrow", 360)];

/// The colours of everything that belongs to no contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Text = 0,
    Muted = 1,
    Grid = 2,
    Bad = 3,
}

impl Ink {
    pub const fn colour(self) -> RGBColor {
        RGBColor(1, self as u8, 0)
    }
}

/// Returns a contender's colour, with its dash if it is for a line.
pub fn colour(contender: &Contender, dashed: bool) -> RGBColor {
    let colour = if contender.own {
        0xff
    } else {
        u8::try_from(contender.colour).unwrap_or(0xfe)
    };
    let dash = if dashed {
        u8::try_from(contender.dash()).unwrap_or(0)
    } else {
        0
    };
    RGBColor(2, colour, dash)
}

/// Returns the colour of the leader from the end of a line to its name. It is dotted, because
/// nothing was measured there.
pub fn lead(contender: &Contender) -> RGBColor {
    let RGBColor(kind, family, _) = colour(contender, false);
    RGBColor(kind, family, 2)
}

/// Returns a chart in both widths. `label` is the text for screen readers.
pub fn svgs(
    label: &str,
    draw: impl Fn(&Area, u32) -> Drawn,
    height: impl Fn(u32) -> u32,
) -> String {
    WIDTHS
        .iter()
        .map(|&(class, width)| {
            svg(class, label, (width, height(width)), |area| {
                draw(area, width)
            })
        })
        .collect()
}

fn svg(
    class: &str,
    label: &str,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area) -> Drawn,
) -> String {
    let mut shapes = String::new();
    {
        let area = SVGBackend::with_string(&mut shapes, (width, height)).into_drawing_area();
        if let Err(error) = draw(&area).and_then(|()| Ok(area.present()?)) {
            return format!(
                "<p class=\"note\">This chart could not be drawn: {}</p>",
                escape(&error.to_string())
            );
        }
    }
    let label = escape(label);
    let body = shapes.split_once('>').map_or("", |(_, body)| body);
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{label}\"><title>{label}</title>{}\n",
        classes(body)
    )
}

/// Replaces the placeholder colours by classes.
fn classes(shapes: &str) -> String {
    let mut out = String::with_capacity(shapes.len());
    // Every shape has these attributes with the same value. They would make up half of the page.
    let shapes = shapes
        .replace(" opacity=\"1\"", "")
        .replace(" font-family=\"sans-serif\"", "");
    let mut rest = shapes.as_str();
    while let Some(at) = rest.find("=\"#") {
        let (before, name) = rest.split_at(at);
        let code = name
            .get(3..9)
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .unwrap_or(0);
        let (kind, colour, dash) = (code >> 16, code >> 8 & 0xff, code & 0xff);
        let (attribute, shape) = match before.strip_suffix("stroke") {
            Some(attribute) => (attribute, "s"),
            None => (before.strip_suffix("fill").unwrap_or(before), "f"),
        };
        out.push_str(attribute);
        out.push_str(&match (kind, colour) {
            (2, 0xff) => format!("class=\"{shape} own\""),
            (2, colour) => format!("class=\"{shape} c{colour} d{dash}\""),
            (_, ink) => format!("class=\"{shape} ink{ink}\""),
        });
        rest = name.get(10..).unwrap_or("");
    }
    out + rest
}

/// Writes text at a pixel. The size is in CSS pixels: the backend divides by 1.24.
pub fn write(
    area: &Area,
    text: &str,
    at: (i32, i32),
    size: f64,
    ink: RGBColor,
    bold: bool,
    anchor: HPos,
) -> Drawn {
    let font = FontDesc::new(
        FontFamily::SansSerif,
        size * 1.24,
        if bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        },
    );
    let style = TextStyle::from(font)
        .color(&ink)
        .pos(Pos::new(anchor, VPos::Center));
    area.draw_text(text, &style, at)?;
    Ok(())
}

pub use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The width of a letter at the size of labels, in tenths of a pixel. It assumes a wide font,
/// because the reader's font is unknown.
const LETTER: usize = 65;

/// Returns the width for the longest of these names, within limits.
pub fn name_width<'n>(names: impl Iterator<Item = &'n str>) -> i32 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    i32::try_from((longest.clamp(8, 25) * LETTER).div_ceil(10)).unwrap_or(0)
}

/// Shortens a name to fit. Its middle is left out, because names of a family often differ at the
/// end.
pub fn fit(name: &str, width: i32) -> String {
    let capacity = usize::try_from(width.max(0)).unwrap_or(0) * 10 / LETTER;
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= capacity {
        return name.to_owned();
    }
    let end = capacity / 2;
    let start = capacity.saturating_sub(end + 1);
    letters[..start]
        .iter()
        .chain(&['…'])
        .chain(&letters[letters.len() - end..])
        .collect()
}

/// Writes text below an axis, centered unless it would leave the chart.
pub fn below(area: &Area, text: &str, (middle, y): (i32, i32)) -> Drawn {
    let half = i32::try_from(text.chars().count() * LETTER / 20)?;
    let width = i32::try_from(area.dim_in_pixel().0)?;
    let middle = middle.min(width - half - 2).max(half + 2);
    write(
        area,
        text,
        (middle, y),
        12.0,
        Ink::Text.colour(),
        false,
        HPos::Center,
    )
}

/// The mark that points down.
pub const DOWN: usize = 4;

/// Draws the mark of number `kind`.
pub fn mark(area: &Area, kind: usize, (x, y): (i32, i32), r: i32, ink: ShapeStyle) -> Drawn {
    let polygon = |points: &[(i32, i32)]| -> Drawn {
        let points: Vec<_> = points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        area.draw(&Polygon::new(points, ink))?;
        Ok(())
    };
    match kind % 6 {
        0 => area.draw(&Circle::new((x, y), r, ink))?,
        1 => polygon(&[(-r, -r), (r, -r), (r, r), (-r, r)])?,
        2 => polygon(&[(0, -r - 1), (r + 1, r), (-r - 1, r)])?,
        3 => polygon(&[(0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0)])?,
        4 => polygon(&[(0, r + 1), (r + 1, -r), (-r - 1, -r)])?,
        _ => polygon(&[(-r - 1, -1), (r + 1, -1), (r + 1, 1), (-r - 1, 1)])?,
    }
    Ok(())
}
