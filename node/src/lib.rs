//! Reads the state of a node, for the agent, `infera top` and the benches: its threads with the tiers that
//! they get, those that use most CPU time, the scheduler's statistics, pressure. Changes nothing.

mod busiest;
mod psi;
mod stats;
mod threads;

pub use busiest::{Busiest, Busy};
pub use psi::cpu_some_us;
pub use stats::{STATS_SOCKET, Stats, StatsClient, TierStats};
pub use threads::{Sampler, Thread, Tiers};
