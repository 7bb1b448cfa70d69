//! Which of the overlay's callbacks this kernel gets. One object serves all kernels, and is fitted to the one that runs between
//! opening and loading it: the build puts the call of [`fit`] into the crate's generated code.

use crate::bpf_skel::OpenBpfSkel;
use anyhow::Result;
use scx_utils::compat::ksym_exists;

/// The kernel function that puts a local queue's tasks back from any program, since 6.19. Kernels with it warn of
/// `ops.cpu_release()`, which older ones need.
const FROM_ANYWHERE: &str = "scx_bpf_reenqueue_local___v2";

/// Has the kernel call `infera_switched` at each switch, or `ops.cpu_release()`: bpf/taken.bpf.h. The crate attaches each program
/// that is loaded; a second link would have it called twice.
///
/// # Errors
///
/// Never with scx_utils 1.1: `ksym_exists` panics on a kernel without BTF, and the checks at the start refuse such a
/// kernel.
pub fn fit(skel: &mut OpenBpfSkel<'_>) -> Result<()> {
    if ksym_exists(FROM_ANYWHERE)? {
        skel.struct_ops.rustland_mut().cpu_release = std::ptr::null_mut();
        skel.progs.infera_switched.set_autoload(true);
    }
    Ok(())
}
