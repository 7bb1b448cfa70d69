//! A real Kubernetes API server and the tools around it, for tests.

pub mod agent;
pub mod cluster;
pub mod definitions;
pub mod fetch;
mod go;
pub mod node;
pub mod objects;
mod packages;
pub mod process;
pub mod programs;
