//! Mutexes that exclude only the threads of one process. They are measured without contention, as a
//! reference that users know.

use super::{Contender, DeathReport, Failed, Handle};
use crate::arena::Line;

/// A mutex of one process.
pub trait Mutex: Default {
    fn with(&self, body: impl FnOnce()) -> Result<(), Failed>;
}

impl Mutex for std::sync::Mutex<()> {
    #[inline]
    fn with(&self, body: impl FnOnce()) -> Result<(), Failed> {
        let _guard = self.lock().map_err(|_| Failed::at("lock"))?;
        body();
        Ok(())
    }
}

impl Mutex for parking_lot::Mutex<()> {
    #[inline]
    fn with(&self, body: impl FnOnce()) -> Result<(), Failed> {
        let _guard = self.lock();
        body();
        Ok(())
    }
}

/// Locks of one kind.
pub struct InProcess<M>(Vec<Line<M>>);

impl<M: Mutex> Contender for InProcess<M> {
    type Handle<'a>
        = Attached<'a, M>
    where
        M: 'a;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        Ok(InProcess((0..locks).map(|_| Line(M::default())).collect()))
    }

    fn attach(&self, lock: usize) -> Result<Attached<'_, M>, Failed> {
        Ok(Attached(&self.0[lock]))
    }
}

pub struct Attached<'a, M>(&'a M);

impl<M: Mutex> Handle for Attached<'_, M> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        self.0.with(|| body(DeathReport::None))
    }
}
