//! What the process may do once it has attached: read files and what its open descriptors
//! allow, and no more.

use log::warn;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Reading configuration and cgroups of any owner.
const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Gives up the calling thread's other capabilities, for itself and for threads that it starts.
/// A failure leaves it with more than it needs, which is no reason not to schedule.
pub fn drop_most() {
    let sets = CapabilitySets {
        effective: KEPT,
        permitted: KEPT,
        inheritable: CapabilitySet::empty(),
    };
    if let Err(error) = set_no_new_privs(true).and_then(|()| set_capabilities(None, sets)) {
        warn!("cannot give up capabilities: {error}");
    }
}
