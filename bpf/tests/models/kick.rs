//! Between the kernel side and user space: `send()` of scheduler.rs against `drain_decisions()` of decide.bpf.h; and the rounds
//! of the loop against `expect_policy()`, `expect_rest()` and `policy_has_seen()` of late.bpf.h, which decide whether CPUs
//! are kicked to take tasks back (`wake_rescuers()`).

use crate::{Order, check};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::thread;

/// The ring of decisions, and the count by which a CPU decides to look into it.
#[derive(Default)]
struct Decisions {
    ring: AtomicU64,
    sent: AtomicU64,
}

/// A CPU that sees the count finds the decision in the ring. On other than strongly ordered CPUs the count could otherwise
/// come first, and the CPU look in vain.
fn a_count_means_a_decision(order: Order) {
    let decisions = Arc::new(Decisions::default());
    let user = {
        let decisions = decisions.clone();
        thread::spawn(move || {
            decisions.ring.store(1, Relaxed);
            if order == Order::Kept {
                fence(Release);
            }
            decisions.sent.store(1, Relaxed);
        })
    };
    if decisions.sent.load(Relaxed) != 0 {
        fence(Acquire);
        assert_eq!(decisions.ring.load(Relaxed), 1, "an empty ring");
    }
    user.join().unwrap();
}

/// The ring of messages and the rounds of the loop.
#[derive(Default)]
struct Rounds {
    messages: AtomicU64,
    began: AtomicU64,
    ended: AtomicU64,
    wanted_round: AtomicU64,
    wanted: AtomicBool,
}

impl Rounds {
    /// `begin_round()`, `receive()`.
    fn begin(&self) -> u64 {
        self.began.store(self.began.load(Relaxed) + 1, Relaxed);
        fence(SeqCst);
        self.messages.swap(0, SeqCst)
    }

    /// `end_round()`.
    fn end(&self) {
        fence(SeqCst);
        self.ended.store(self.began.load(Relaxed), Relaxed);
    }

    fn has_seen(&self) -> bool {
        let ended = self.ended.load(Relaxed);
        ended > self.wanted_round.load(Relaxed)
            || (ended == self.began.load(Relaxed) && self.messages.load(SeqCst) == 0)
    }

    fn expect(&self) {
        if !self.wanted.load(Relaxed) || self.has_seen() {
            self.wanted_round.store(self.began.load(Relaxed), Relaxed);
            self.wanted.store(true, Relaxed);
        }
    }

    /// `queue_to_user()`.
    fn send(&self) {
        self.expect();
        self.messages.fetch_add(1, SeqCst);
    }

    /// `infera_measure()` and the timer, when the loop has stood still for a while: whether the policy is late.
    fn is_late(&self, order: Order) -> bool {
        let in_a_round = self.ended.load(Relaxed) != self.began.load(Relaxed);
        if order == Order::Kept && (in_a_round || self.messages.load(SeqCst) > 0) {
            self.expect();
        }
        self.wanted.load(Relaxed) && !self.has_seen()
    }
}

/// The loop makes one round and hangs in the next, while a message comes. Either it has read the message or it is late: the
/// task is not forgotten.
fn a_loop_that_hangs_is_late(order: Order) {
    let rounds = Arc::new(Rounds::default());
    let user = {
        let rounds = rounds.clone();
        thread::spawn(move || {
            let read = rounds.begin();
            rounds.end();
            read + rounds.begin()
        })
    };
    rounds.send();
    let read = user.join().unwrap();
    let late = rounds.is_late(order);
    assert!(late || read == 1, "the message waits for ever");
}

#[test]
fn a_decision_is_found_where_its_count_is_seen() {
    check(a_count_means_a_decision);
}

#[test]
fn no_message_is_forgotten() {
    check(a_loop_that_hangs_is_late);
}
