//! What of Kubernetes' objects matters to tiers, and the names of the annotations.
//!
//! Pure: the agent has the objects from its watch, the command line from files.
#![forbid(unsafe_code)]

mod facts;
mod keys;
mod quantity;

pub use facts::PodFacts;
pub use keys::Keys;
pub use quantity::parse_millis;
