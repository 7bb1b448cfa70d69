//! What leaving a node takes, for whoever makes the scheduler leave: its BPF link, and the kernel's
//! thread that ends RCU's grace periods. And the real-time priority that the guard and the scheduler's vitals thread share.

mod grace;
mod link;
mod realtime;

pub use grace::GraceThread;
pub use link::detach;
pub use realtime::enter as enter_realtime;
