//! `fill()` and `waiting()` of queue.bpf.h: a CPU that skips the kernel's look-up of an empty queue misses no task.
//!
//! The insert takes effect after the callback that recorded it, so a queue counts as empty only `SETTLE_NS` after the record.

use crate::{Order, check};
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// `SETTLE_NS`, longer than anything here takes. Broken: an insert would have to take effect at once.
fn settle(order: Order) -> u64 {
    match order {
        Order::Kept => SETTLE,
        Order::Broken => 0,
    }
}

const SETTLE: u64 = 1000;

struct Queue {
    filled: AtomicU64,
    emptied: AtomicU64,
    /// The kernel's queue, behind its lock.
    tasks: Mutex<u32>,
    /// One clock for all CPUs.
    clock: AtomicU64,
}

impl Queue {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// `fill()`, and the insert.
    fn insert(&self) {
        self.filled.store(self.now(), Relaxed);
        *self.tasks.lock().unwrap() += 1;
    }

    /// `waiting()`: how many tasks this CPU sees.
    fn look(&self, order: Order) -> u32 {
        if self.filled.load(Relaxed) + settle(order) <= self.emptied.load(Relaxed) {
            return 0;
        }
        let tasks = *self.tasks.lock().unwrap();
        if tasks == 0 {
            self.emptied.store(self.now(), Relaxed);
        }
        tasks
    }
}

/// A CPU looks while the insert happens, and once more afterwards.
fn what_was_inserted_is_seen(order: Order) {
    let queue = Arc::new(Queue {
        filled: AtomicU64::new(0),
        emptied: AtomicU64::new(SETTLE + 1),
        tasks: Mutex::new(0),
        clock: AtomicU64::new(SETTLE + 2),
    });
    let cpu = {
        let queue = queue.clone();
        thread::spawn(move || {
            queue.look(order);
        })
    };
    queue.insert();
    cpu.join().unwrap();
    assert_eq!(queue.look(order), 1);
}

#[test]
fn an_insert_is_not_missed() {
    check(what_was_inserted_is_seen);
}
