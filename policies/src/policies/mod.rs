//! The policies, one file each.

mod deadline;
mod fifo;
mod strict;
mod weighted;

pub use deadline::Deadline;
pub use fifo::Fifo;
pub use strict::Strict;
pub use weighted::Weighted;
