//! The steps of the last run, recorded to be printed.

use crate::sys::Wait;
use std::cell::RefCell;
use std::fmt;
use std::panic::Location;

/// What a thread did, and what it found.
#[derive(Clone, Copy)]
pub enum Event {
    Load(u64),
    Store(u64),
    Exchange(u64, u64),
    NoExchange(u64, u64),
    Change(&'static str, u64, u64),
    Sleeps(u32),
    Waited(Wait),
    Woke(u32),
    Cleared(u32, u32),
    Killed,
}

#[derive(Clone, Copy)]
struct Line {
    tid: u32,
    event: Event,
    at: &'static Location<'static>,
}

thread_local! {
    // Loom's threads are coroutines of one real thread.
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

pub fn clear() {
    LINES.with_borrow_mut(Vec::clear);
}

pub fn note(tid: u32, event: Event, at: &'static Location<'static>) {
    LINES.with_borrow_mut(|lines| lines.push(Line { tid, event, at }));
}

/// Prints the steps since [`clear`].
pub fn print() {
    LINES.with_borrow(|lines| lines.iter().for_each(|line| println!("{line}")));
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.at.file().rsplit('/').next().unwrap_or_default();
        let place = format!("{file}:{}", self.at.line());
        write!(f, "thread {}  {place:<16}  {}", self.tid, self.event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Load(value) => write!(f, "load: {value:#x}"),
            Event::Store(value) => write!(f, "store {value:#x}"),
            Event::Exchange(from, to) => write!(f, "exchange {from:#x} for {to:#x}"),
            Event::NoExchange(from, found) => write!(f, "exchange {from:#x}: finds {found:#x}"),
            Event::Change(what, value, old) => write!(f, "{what} {value:#x}: was {old:#x}"),
            Event::Sleeps(value) => write!(f, "sleeps on {value:#x}"),
            Event::Waited(answer) => write!(f, "futex_wait: {answer:?}"),
            Event::Woke(count) => write!(f, "futex_wake: {count}"),
            Event::Cleared(old, count) => {
                write!(f, "futex_wake_clearing: was {old:#x}, wakes {count}")
            }
            Event::Killed => write!(f, "is killed"),
        }
    }
}
