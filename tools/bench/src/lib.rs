//! `infera bench`: which scheduler, for which work, by how much.
//!
//! A *scenario* is a file: workloads in tiers, and a ladder of background load. An *arm* is who
//! schedules: the stock scheduler set up in some way, another sched_ext scheduler, or infera with one of
//! its policies. Every arm of a scenario runs in the same boot; what each of its windows measured is a
//! [`Record`], kept whole; a report is made of records and of nothing else.

mod arm;
mod layered;
mod machine;
mod record;
pub mod report;
mod run;
mod scenario;
mod statistics;

pub use arm::{Arm, PEERS};
pub use record::{Record, Work, read_records, write_records};
pub use run::{RECORD, RunArgs, run};
pub use scenario::{Load, SHIPPED, Scenario, shipped};
