//! `infera-agent`: from Kubernetes pods to tiers, and the node's signals.

#![allow(dead_code, reason = "not all of it is wired up yet")]

mod book;
mod cli;
mod keys;
mod pods;
mod tree;

fn main() {}
