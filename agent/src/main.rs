//! `infera-agent`: from Kubernetes pods to tiers, and the node's signals.

#![allow(dead_code, reason = "not all of it is wired up yet")]

mod book;
mod cli;
mod guard;
mod keys;
mod lint;
mod metrics;
mod pods;
mod psi;
mod stats;
mod tree;

fn main() {}
