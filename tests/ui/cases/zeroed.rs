//! Zero bytes of a type that does not allow them. Its invariant holds only for what `new` makes.

#![forbid(unsafe_code)]

use pshared::{Shared, SharedMutex, ShmData, ShmSafe};

mod ratio {
    use super::{ShmData, ShmSafe};

    #[derive(ShmSafe, ShmData)]
    #[repr(C)]
    pub struct Ratio {
        numerator: u32,
        denominator: u32,
    }

    impl Ratio {
        pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
            (denominator != 0).then_some(Ratio {
                numerator,
                denominator,
            })
        }

        pub fn whole(&self) -> u32 {
            self.numerator / self.denominator
        }
    }
}

use ratio::Ratio;

fn main() {
    println!("{}", Shared::<Ratio>::zeroed().unwrap().whole());
    println!("{}", Shared::<[Ratio; 2]>::zeroed().unwrap()[0].whole());
    let locked = Shared::<SharedMutex<Ratio>>::zeroed().unwrap();
    println!("{}", locked.lock().unwrap().whole());
}
