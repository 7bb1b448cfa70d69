//! What leaving a node takes, for whoever makes the scheduler leave: its BPF link, and the kernel's
//! thread that ends RCU's grace periods.

mod grace;
mod link;

pub use grace::GraceThread;
pub use link::detach;
