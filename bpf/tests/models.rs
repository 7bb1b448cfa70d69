//! Models of what exact time cannot show: windows below a microsecond, and the order in which CPUs see each other's writes.
//! Guests run their CPUs in turns, so two wakeups never race there.
//!
//! Each file is the twin of a few lines of BPF, which it names; loom runs every interleaving of it, and every value that a
//! weakly ordered CPU may read. Each property is also run with the order broken on purpose, and has to fail then: a model that
//! cannot fail shows nothing. A change of the BPF lines is a change here.
//!
//! What BPF has, in loom's terms: a plain or volatile access is `Relaxed`; `__sync_*` that return a value are `SeqCst` with a
//! full barrier; the lock of a kernel queue is a lock.

#[path = "models/claim.rs"]
mod claim;
#[path = "models/fill.rs"]
mod fill;
#[path = "models/idle.rs"]
mod idle;
#[path = "models/kick.rs"]
mod kick;
#[path = "models/take.rs"]
mod take;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether the lines are as in the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Kept,
    Broken,
}

/// Runs `model` in every interleaving: it has to hold with the order of the overlay, and to fail with the broken one.
fn check(model: impl Fn(Order) + Copy + Send + Sync + 'static) {
    loom::model(move || model(Order::Kept));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let broken = catch_unwind(AssertUnwindSafe(|| {
        loom::model(move || model(Order::Broken))
    }));
    std::panic::set_hook(hook);
    assert!(
        broken.is_err(),
        "the model holds with a broken order, too: it shows nothing"
    );
}
