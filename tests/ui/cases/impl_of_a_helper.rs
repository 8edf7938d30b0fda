//! The derives check some fields by a generated trait. A macro in a discriminant expands in its
//! scope, but cannot implement it for a type that may not be shared.

#![forbid(unsafe_code)]
#![allow(non_local_definitions)]

use pshared::ShmData;
use pshared::memory::Layout;

struct Name(String);

/// The macro also expands in the enum itself, outside the scope of the generated trait.
trait ShmDataField0 {
    type Allowed;
    const ZERO_IS_VALID: bool;
    const DESCRIBE: fn(&mut Layout);
}

macro_rules! implement {
    ($allowed:ty) => {{
        impl ShmDataField0 for Name {
            type Allowed = $allowed;
            const ZERO_IS_VALID: bool = true;
            const DESCRIBE: fn(&mut Layout) = |_| ();
        }
        0
    }};
}

#[derive(ShmData)]
#[repr(u8)]
enum Itself {
    Name(Name) = implement!(Name),
}

mod other_type {
    use super::{Layout, Name, ShmData};

    trait ShmDataField0 {
        type Allowed;
        const ZERO_IS_VALID: bool;
        const DESCRIBE: fn(&mut Layout);
    }

    #[derive(ShmData)]
    #[repr(u8)]
    enum Number {
        Name(Name) = implement!(u64),
    }
}

fn main() {}
