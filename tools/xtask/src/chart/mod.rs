//! The Helm chart: its checks, and its runbook performed.

mod alerts;
pub mod check;
mod golden;
pub mod guard;
mod helm;
mod kubelet;
mod page;
mod programs;
mod refusals;
pub mod runbook;
mod schemas;
mod steps;
mod used;
