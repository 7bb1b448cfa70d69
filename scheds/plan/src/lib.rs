//! From configuration and topology to the tables the overlay executes.
//!
//! Pure apart from reading the files: what the scheduler puts in force, others can show, check
//! and test without it.
#![forbid(unsafe_code)]

mod assignment;
mod config;
mod plan;
mod priority;
mod rules;
mod sizing;
mod system_units;
mod topology;

pub use assignment::{ASSIGNMENT_FILE, Assignment, AssignmentError, PodCgroup};
pub use config::{Config, ConfigError, Fence, Limits};
pub use plan::{CpuPlan, Plan, TierMask, bit};
pub use priority::{PodPriority, PriorityMapping, QosClass};
pub use rules::{Rule, cgroups_named};
pub use sizing::{PodSize, Sizing, TierSize, whole_cores};
pub use topology::{CpuSet, Topology, TopologyError, format_cpu_list, parse_cpu_list};
