//! The library's word algorithms, compiled against this test's `crate::sys`.

#[path = "../../src/raw/any.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod any;
#[path = "../../src/raw/auto_event.rs"]
pub mod auto_event;
#[path = "../../src/raw/barrier.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod barrier;
#[path = "../../src/raw/condvar.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod condvar;
#[path = "../../src/raw/count.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod count;
#[path = "../../src/raw/death.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod death;
#[path = "../../src/raw/event.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod event;
#[path = "../../src/raw/futex.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod futex;
#[path = "../../src/raw/local.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod local;
#[path = "../../src/raw/once.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod once;
#[path = "../../src/raw/outcome.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod outcome;
#[path = "../../src/raw/pace.rs"]
pub mod pace;
#[path = "../../src/raw/reader_seat.rs"]
pub mod reader_seat;
#[path = "../../src/raw/record.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod record;
#[path = "../../src/raw/reentrant.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod reentrant;
#[path = "../../src/raw/robust.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod robust;
#[path = "../../src/raw/row.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod row;
#[path = "../../src/raw/rwlock.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod rwlock;
#[path = "../../src/raw/rwlock_read.rs"]
pub mod rwlock_read;
#[path = "../../src/raw/rwlock_write.rs"]
pub mod rwlock_write;
#[path = "../../src/raw/seat.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod seat;
#[path = "../../src/raw/slot.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod slot;
#[path = "../../src/raw/spin.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod spin;
#[path = "../../src/raw/ticket.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod ticket;
#[path = "../../src/raw/unplaced.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod unplaced;
#[path = "../../src/raw/watch.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod watch;
