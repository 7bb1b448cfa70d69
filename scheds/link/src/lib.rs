//! What a process needs to detach the scheduler: its BPF link, and the kernel's thread that ends
//! RCU's grace periods. And real-time priorities.

mod grace;
mod link;
pub mod realtime;

pub use grace::GraceThread;
pub use link::detach;
