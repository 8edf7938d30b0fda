//! smoke
use pshared::*;
use std::time::Instant;
fn bench(name: &str, mut f: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..15 { let n = 2_000_000; let t = Instant::now(); for _ in 0..n { f(); } best = best.min(t.elapsed().as_nanos() as f64 / n as f64); }
    println!("{name}: {best:.2} ns");
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let m = Shared::anonymous(SharedMutex::new(0u64))?;
    let child = fork::spawn(|| for _ in 0..1_000_00 { *m.lock().unwrap() += 1; })?;
    for _ in 0..1_000_00 { *m.lock()? += 1; }
    println!("{:?} {}", child.wait()?, *m.lock()?);
    let c2 = fork::spawn(|| { let _g = m.lock().unwrap(); std::process::abort(); })?;
    println!("{:?}", c2.wait()?);
    println!("{:?}", m.lock());
    if let Err(LockError::Poisoned(p)) = m.lock() { drop(p.replace(3)); }
    println!("{:?} {:?}", *m.lock()?, m.holder());
    let t = Instant::now();
    std::thread::scope(|s| { s.spawn(|| std::mem::forget(m.lock().unwrap())); });
    println!("{:?} {:?}", m.lock(), t.elapsed());
    let m = Shared::anonymous(SharedMutex::new(0u64))?;
    let s = std::sync::Mutex::new(0u64);
    let local = SharedMutex::new(0u64);
    let sem = Shared::anonymous(SharedSemaphore::new(1))?;
    for _ in 0..3 {
        bench("std", || *std::hint::black_box(&s).lock().unwrap() += 1);
        bench("shared", || *std::hint::black_box(&m).lock().unwrap() += 1);
        bench("unarmed", || *std::hint::black_box(&local).lock().unwrap() += 1);
        bench("sem", || { std::hint::black_box(&sem).wait().unwrap(); sem.post().unwrap() });
    }
    Ok(())
}
