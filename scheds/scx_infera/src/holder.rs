//! A process that shares this one's memory, and nothing else, so that the kernel detaches a killed scheduler at once.
//!
//! A process that ends gives its memory back before it closes its files, the scheduler's link among them. Some 90 MB, locked, take 50 ms
//! on a busy node and more than 100 where memory is fragmented. But only the last process that uses a memory gives it back, and the
//! holder outlives this one by a moment: the kernel kills it when this one's main thread ends.

use log::warn;
use std::ffi::{c_int, c_void};
use std::ptr;

/// Bytes of the holder's stack: it calls the kernel a few times.
const STACK: usize = 32 * 1024;

/// Starts the holder; called by the main thread before anything is opened that must be closed soon.
pub fn start() {
    let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
    // SAFETY: the child runs `hold` alone, on a stack of its own that is never given back. With it in one memory, this process
    // goes on as if the child were a thread that never returns.
    let child = unsafe {
        let top = stack.as_mut_ptr().add(STACK).cast::<c_void>();
        let parent = ptr::without_provenance_mut(libc::getpid() as usize);
        libc::clone(hold, top, libc::CLONE_VM, parent)
    };
    if child < 0 {
        let error = std::io::Error::last_os_error();
        warn!(
            "a kill will take longer to detach the scheduler ({error}): raise the limit on processes"
        );
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITIES: u32 = 0x2008_0522;

/// Sleeps until it is killed. It shares the main thread's `errno` and state, so no call here fails or can be cancelled.
extern "C" fn hold(parent: *mut c_void) -> c_int {
    // SAFETY: plain system calls on its own behalf, with constant arguments, or on its own stack.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as usize != parent.addr() {
            libc::_exit(0);
        }
        libc::prctl(libc::PR_SET_NAME, c"infera-memory".as_ptr());
        libc::syscall(libc::SYS_capset, &[CAPABILITIES, 0], &[0_u32; 6]);
        // It has copies of all that was open, such as the guard's end of the log.
        libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32);
        loop {
            libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
        }
    }
}
