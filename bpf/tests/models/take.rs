//! `take_task()` of queue.bpf.h: a task in the policy's hands is queued once, by the policy's decision or by `rescue()`, and a
//! decision of before an enqueue does nothing. So it never cancels another decision either: `take_decision()` of decide.bpf.h
//! inserts nothing for it.

use crate::{Order, check};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

/// `infera_task.enq_cnt`, and how often the task was queued for the enqueue that the message was about.
struct Task {
    enq_cnt: AtomicU32,
    queued: AtomicU32,
}

/// The enqueue that the policy was asked about.
const ASKED: u32 = 7;

impl Task {
    /// `take_task()`, and the insert that follows.
    fn take(&self, order: Order) {
        let taken = match order {
            Order::Kept => self
                .enq_cnt
                .compare_exchange(ASKED, ASKED + 1, SeqCst, SeqCst)
                .is_ok(),
            Order::Broken => {
                let ours = self.enq_cnt.load(Relaxed) == ASKED;
                if ours {
                    self.enq_cnt.store(ASKED + 1, Relaxed);
                }
                ours
            }
        };
        if taken {
            self.queued.fetch_add(1, SeqCst);
        }
    }
}

fn asked() -> Arc<Task> {
    Arc::new(Task {
        enq_cnt: AtomicU32::new(ASKED),
        queued: AtomicU32::new(0),
    })
}

fn decision_and_rescue_queue_once(order: Order) {
    let task = asked();
    let rescue = {
        let task = task.clone();
        thread::spawn(move || task.take(order))
    };
    task.take(order);
    rescue.join().unwrap();
    assert_eq!(task.queued.load(SeqCst), 1);
}

/// `infera_enqueue()` counts, under the lock of the task's runqueue, and the decision may be anywhere in between. Broken: the
/// decision is not compared with the counter at all.
fn a_decision_before_the_enqueue_is_stale(order: Order) {
    let task = asked();
    task.enq_cnt.fetch_add(1, Relaxed);
    let decision = {
        let task = task.clone();
        thread::spawn(move || match order {
            Order::Kept => task.take(Order::Kept),
            Order::Broken => {
                task.queued.fetch_add(1, SeqCst);
            }
        })
    };
    decision.join().unwrap();
    assert_eq!(task.queued.load(SeqCst), 0);
}

#[test]
fn a_task_is_taken_once() {
    check(decision_and_rescue_queue_once);
}

#[test]
fn a_stale_decision_takes_nothing() {
    check(a_decision_before_the_enqueue_is_stale);
}
