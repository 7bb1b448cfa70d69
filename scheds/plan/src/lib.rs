//! From configuration and topology to the tables the overlay executes.
//!
//! Pure apart from reading the files: what the scheduler puts in force, others can show, check
//! and test without it.
#![forbid(unsafe_code)]

mod config;
mod plan;
mod topology;

pub use config::{Config, ConfigError, Fence, Rule};
pub use plan::{CpuPlan, Plan, TierMask, bit};
pub use topology::{CpuSet, Topology, TopologyError, format_cpu_list, parse_cpu_list};
