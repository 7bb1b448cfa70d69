//! Which of the overlay's callbacks this kernel gets. One object serves all kernels, and is fitted to the one that runs between
//! opening and loading it: the build puts the call of [`fit`] into the crate's generated code.

use crate::bpf_skel::{BpfSkel, OpenBpfSkel};
use anyhow::Result;
use libbpf_rs::Link;
use scx_utils::compat::ksym_exists;

/// The kernel function that puts a local queue's tasks back from any program, since 6.19. Kernels with it warn of
/// `ops.cpu_release()`, which older ones need.
const FROM_ANYWHERE: &str = "scx_bpf_reenqueue_local___v2";

/// Has the kernel call `infera_switched` at each switch, or `ops.cpu_release()`: bpf/taken.bpf.h.
pub fn fit(skel: &mut OpenBpfSkel<'_>) -> Result<()> {
    if ksym_exists(FROM_ANYWHERE)? {
        skel.struct_ops.rustland_mut().cpu_release = std::ptr::null_mut();
        skel.progs.infera_switched.set_autoload(true);
    }
    Ok(())
}

/// The program that is called at each switch, where it was loaded. It ends with the link.
pub fn switched(skel: &mut BpfSkel<'_>) -> Result<Option<Link>> {
    let loaded = skel.progs.infera_switched.autoload();
    let link = loaded.then(|| skel.progs.infera_switched.attach());
    Ok(link.transpose()?)
}
