//! `claim_from()` of victim.bpf.h and `claim_from_peer()` of peer.bpf.h: two wakeups at the same time take two CPUs.

use crate::{Order, check};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

const CRITICAL: u32 = 1;
const BACKGROUND: u32 = 5;
const CPUS: usize = 2;

/// `cpu_ctx.tier` of each CPU.
struct Cpus([AtomicU32; CPUS]);

impl Cpus {
    /// `claim_from()`: only where the CPU still runs what the waker saw there.
    fn claim(&self, cpu: usize, order: Order) -> bool {
        let tier = &self.0[cpu];
        if tier.load(Relaxed) != BACKGROUND {
            return false;
        }
        match order {
            Order::Kept => tier
                .compare_exchange(BACKGROUND, CRITICAL, SeqCst, SeqCst)
                .is_ok(),
            Order::Broken => {
                tier.store(CRITICAL, Relaxed);
                true
            }
        }
    }

    /// `claim_lower()`: a claim that another waker was faster with goes on to the next CPU.
    fn claim_any(&self, order: Order) -> Option<usize> {
        (0..CPUS).find(|cpu| self.claim(*cpu, order))
    }
}

fn two_wakers_take_two_cpus(order: Order) {
    let cpus = Arc::new(Cpus([BACKGROUND, BACKGROUND].map(AtomicU32::new)));
    let other = {
        let cpus = cpus.clone();
        thread::spawn(move || cpus.claim_any(order))
    };
    let mut taken = [cpus.claim_any(order), other.join().unwrap()];
    taken.sort_unstable();
    assert_eq!(taken, [Some(0), Some(1)]);
}

#[test]
fn claims_are_not_shared() {
    check(two_wakers_take_two_cpus);
}
