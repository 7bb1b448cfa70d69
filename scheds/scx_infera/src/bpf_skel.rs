//! The overlay's skeleton, generated.
#![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
include!(concat!(env!("OUT_DIR"), "/bpf_skel.rs"));
