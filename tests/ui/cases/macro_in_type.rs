#![forbid(unsafe_code)]
use pshared::{SharedMutex, ShmData, ShmSafe};

macro_rules! word {
    () => {
        u64
    };
}

#[derive(ShmData)]
#[repr(C)]
struct Stateful {
    at: macro_below::now_and_then!(),
}

#[derive(ShmSafe)]
#[repr(C)]
struct Plain {
    word: word!(),
    words: [word!(); 2],
    locked: SharedMutex<word!()>,
}

#[derive(ShmData)]
#[repr(u8)]
enum Choice {
    First([u8; std::mem::size_of::<word!()>()]),
}

// A type alias is one type.
type Word = word!();

#[derive(ShmData)]
#[repr(C)]
struct Named {
    word: Word,
}

fn main() {}
