//! `go_idle()` of dispatch.bpf.h and `fetch_cpu()` of enqueue.bpf.h: a CPU that goes idle and a task that is queued at
//! the same time do not miss each other.
//!
//! The kernel sets a CPU's idle bit after ops.dispatch has found nothing. So the CPU leaves its number, and then looks whether
//! something was inserted a moment ago; what inserts then looks for that number. Of two such pairs (write mine, full
//! barrier, read yours) at least one side sees the other.
//!
//! Whether there was an insert a moment ago, and not whether there was one since the CPU began to look: an insert is recorded
//! before it takes effect, so the CPU may see the record before it looks, and the task not yet.
//!
//! Not in the model: the CPU looks once more, and an insert takes effect when ops.enqueue returns. Should that take longer than
//! until the second look, `infera_measure()` ends the wait within 50 ms, as it has the scheduler's process run.

use crate::{Order, check};
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// What comes: a task into a queue, or a message for the policy, which `queue_to_user()` puts into the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Task,
    Message,
}

#[derive(Default)]
struct Node {
    /// A tier's queue, behind the kernel's lock.
    queue: Mutex<u32>,
    /// 0: long ago.
    last_filled: AtomicU64,
    /// The ring of messages.
    ring: AtomicU64,
    /// `went_idle_at` is recent.
    went_idle: AtomicBool,
    /// The CPU dispatches once more.
    kicked: AtomicBool,
}

impl Node {
    /// `queue_tier()` or `queue_to_user()`, then `fetch_cpu()`: no idle bit is set yet.
    fn enqueue(&self, work: Work, order: Order) {
        if work == Work::Task {
            self.last_filled.store(1, Relaxed);
            *self.queue.lock().unwrap() += 1;
        } else {
            self.ring.store(1, Relaxed);
        }
        if order == Order::Kept {
            fence(SeqCst);
        }
        if self.went_idle.load(Relaxed) {
            self.kicked.store(true, Relaxed);
        }
    }

    /// Whether it found the task.
    fn dispatch(&self, order: Order) -> bool {
        if self.ring.load(Relaxed) > 0 || *self.queue.lock().unwrap() > 0 {
            return true;
        }
        self.went_idle.store(true, Relaxed);
        if order == Order::Kept {
            fence(SeqCst);
            if self.last_filled.load(Relaxed) != 0 || self.ring.load(Relaxed) > 0 {
                self.kicked.store(true, Relaxed);
            }
        }
        false
    }
}

fn is_found(work: Work, enqueue: Order, dispatch: Order) {
    let node = Arc::new(Node::default());
    let cpu = {
        let node = node.clone();
        thread::spawn(move || node.dispatch(dispatch))
    };
    node.enqueue(work, enqueue);
    let found = cpu.join().unwrap();
    let kicked = node.kicked.load(Relaxed);
    assert!(found || kicked, "it sleeps beside work");
}

#[test]
fn no_cpu_sleeps_beside_a_task() {
    check(|order| is_found(Work::Task, Order::Kept, order));
    check(|order| is_found(Work::Task, order, Order::Kept));
}

#[test]
fn no_cpu_sleeps_beside_a_message() {
    check(|order| is_found(Work::Message, Order::Kept, order));
    check(|order| is_found(Work::Message, order, Order::Kept));
}
