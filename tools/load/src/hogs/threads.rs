//! Hogs as threads of this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};

use super::{Crowd, Hog};
use crate::signal;

/// Runs them.
///
/// # Errors
///
/// A thread cannot be started, a hog may not have the class, or its job fails. All hogs are ended and waited for before
/// it returns.
pub fn run<'a>(hog: impl Fn(usize) -> Hog<'a>, crowd: Crowd) -> Result<()> {
    // The maker of a crowd would wait for its turn in it after each few hogs that it starts or wakes: where it
    // may, it runs outside of what is measured.
    crowd.class.stand_above();
    // All begin at once, and each by itself: with a lock they would stand in line for it.
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut hogs = Vec::with_capacity(crowd.count);
        let started = (0..crowd.count).try_for_each(|i| {
            let started = thread::Builder::new()
                .name(format!("hog-{i}"))
                .spawn_scoped(scope, {
                    let (hog, begun) = (hog(i), &begun);
                    move || {
                        let mine = crowd.class.take();
                        while !begun.load(Ordering::Acquire) {
                            thread::park();
                        }
                        mine.and_then(|()| hog.work())
                            .with_context(|| format!("hog {i}"))
                    }
                })
                .with_context(|| format!("starting hog {i}"))?;
            hogs.push(started);
            Ok(())
        });
        begun.store(true, Ordering::Release);
        hogs.iter().for_each(|hog| hog.thread().unpark());
        if started.is_ok() {
            crowd.wait();
        }
        signal::request_stop();
        let ended = hogs
            .into_iter()
            .map(|hog| hog.join().expect("a hog does not panic"));
        // Every hog is waited for; the first failure counts.
        ended.fold(started, |outcome: Result<()>, one| outcome.and(one))
    })
}
