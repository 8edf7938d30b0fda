//! Words and numbers of the page.

use super::contenders::Contender;
use super::stats::{Cell, Stat};

pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Formats a number with three significant digits. A large number keeps all digits of its integer
/// part, in groups.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 {
            "0".to_owned()
        } else {
            value.to_string()
        };
    }
    // Rounded before its digits are counted: 999.6 rounds to 1000, which has four digits.
    let magnitude = format!("{:.2e}", value.abs())
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok())
        .unwrap_or(0);
    if magnitude < -6 {
        return format!("{value:.1e}");
    }
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
    group(&format!("{value:.decimals$}"))
}

/// Removes trailing zeros. In a measured figure they show the precision, but chosen values such as
/// ticks have none.
fn chosen(text: String) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    if !number.contains('.') {
        return text;
    }
    let number = number.trim_end_matches('0').trim_end_matches('.');
    if unit.is_empty() {
        number.to_owned()
    } else {
        format!("{number} {unit}")
    }
}

/// Inserts a narrow no-break space between groups of three digits of a long whole number.
fn group(text: &str) -> String {
    let digits = text.trim_start_matches('-');
    if digits.contains('.') || digits.len() < 5 {
        return text.to_owned();
    }
    let mut grouped = if text.starts_with('-') {
        "-".to_owned()
    } else {
        String::new()
    };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a value with its unit. Nanoseconds are converted to a suitable unit of time.
pub fn quantity(value: f64, unit: &str) -> String {
    if unit == "ns" {
        return time(value);
    }
    match unit {
        "" | "min/max" => number(value),
        unit => format!("{} {unit}", number(value)),
    }
}

fn time(ns: f64) -> String {
    let (scale, unit) = match ns.abs() {
        ns if ns >= 999.5e6 => (1e9, "s"),
        ns if ns >= 999.5e3 => (1e6, "ms"),
        ns if ns >= 999.5 => (1e3, "µs"),
        _ => (1.0, "ns"),
    };
    format!("{} {unit}", number(ns / scale))
}

/// Formats the value at a bar. The axis shows the unit, except for times: their unit changes along
/// the axis.
pub fn beside(value: f64, unit: &str) -> String {
    if unit == "ns" {
        time(value)
    } else {
        number(value)
    }
}

/// Formats a tick of an axis.
pub fn tick(value: f64, unit: &str) -> String {
    chosen(beside(value, unit))
}

/// Returns the label of an axis with this unit.
pub fn axis(unit: &str, log: bool) -> String {
    let words = match unit {
        "Mops/s" => "million operations per second (Mops/s)",
        "s/Mop" => "CPU seconds per million operations (s/Mop)",
        "min/max" => "slowest process / fastest (min/max, 1 is fair)",
        "ns" => "time (ns, µs, ms, s)",
        "" => "value",
        unit => unit,
    };
    if log {
        format!("{words}, log")
    } else {
        words.to_owned()
    }
}

/// Formats `12.3 (11.9–12.8)`, in the unit of the record.
pub fn with_spread(stat: &Stat) -> String {
    if stat.rounds < 2 {
        return number(stat.median);
    }
    format!(
        "{} ({}–{})",
        number(stat.median),
        number(stat.low),
        number(stat.high)
    )
}

pub fn processes(count: u32) -> String {
    if count == 1 {
        "1 process".to_owned()
    } else {
        format!("{count} processes")
    }
}

pub fn cell(cell: Cell) -> String {
    let mut text = format!(
        "{} inside, {} outside",
        tick(cell.inside_ns.into(), "ns"),
        tick(cell.outside_ns.into(), "ns")
    );
    if !cell.placement.is_empty() {
        text += ", on ";
        text += cell.placement;
    }
    text
}

/// Describes where a workload without configurable work ran. Adds the work only if there was some.
pub fn place(at: Cell) -> String {
    if at.inside_ns > 0 || at.outside_ns > 0 || at.placement.is_empty() {
        return cell(at);
    }
    format!("on {}", at.placement)
}

/// Joins names with commas and a final "and".
pub fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Returns the name of a contender, escaped.
pub fn code(contender: &Contender) -> String {
    escape(contender.name)
}
