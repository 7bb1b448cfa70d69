//! Detaching the scheduler from outside, through its BPF link.
//!
//! The link is looked up when it is needed and never held: a descriptor held here would keep
//! the scheduler attached after its own process has died.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `enum bpf_cmd` in `linux/bpf.h`.
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_GET_NEXT_ID: libc::c_int = 31;
const LINK_DETACH: libc::c_int = 34;
/// `enum bpf_link_type`.
const STRUCT_OPS: u32 = 9;

/// The name of the map that holds our operations, as the crate we build on demands it.
const MAP: &[u8] = b"rustland\0";

/// The head of `union bpf_attr`, as far as the commands here go.
#[repr(C, align(8))]
#[derive(Default)]
struct Attr {
    words: [u32; 8],
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the commands used here read and write the given structure only, and what its
    // pointer in `info` points at, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<Attr>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result as i32),
    }
}

fn fd_by_id(command: libc::c_int, id: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::default();
    attr.words[0] = id;
    let fd = bpf(command, &mut attr)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The first words of `struct bpf_link_info` or `struct bpf_map_info`.
fn info(fd: &OwnedFd) -> io::Result<[u32; 16]> {
    let mut words = [0u32; 16];
    let mut attr = Attr::default();
    attr.words[0] = fd.as_raw_fd() as u32;
    attr.words[1] = size_of_val(&words) as u32;
    let address = words.as_mut_ptr() as u64;
    attr.words[2] = address as u32;
    attr.words[3] = (address >> 32) as u32;
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(words)
}

fn is_ours(link: &OwnedFd) -> io::Result<bool> {
    // type, id, prog_id, padding, struct_ops.map_id
    let words = info(link)?;
    if words[0] != STRUCT_OPS {
        return Ok(false);
    }
    // type, id, key_size, value_size, max_entries, map_flags, name[16]
    let map = info(&fd_by_id(MAP_GET_FD_BY_ID, words[4])?)?;
    let name: Vec<u8> = map[6..10]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    Ok(name.starts_with(MAP))
}

/// Detaches every scheduler of ours; returns how many. It waits until the kernel has moved
/// all tasks back.
///
/// # Errors
///
/// The process may not list or detach BPF links (CAP_SYS_ADMIN, CAP_BPF).
pub fn detach() -> io::Result<usize> {
    let mut detached = 0;
    let mut id = 0;
    loop {
        let mut attr = Attr::default();
        attr.words[0] = id;
        match bpf(LINK_GET_NEXT_ID, &mut attr) {
            Ok(_) => id = attr.words[1],
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(detached),
            Err(error) => return Err(error),
        }
        // Gone meanwhile: nothing to detach.
        let Ok(link) = fd_by_id(LINK_GET_FD_BY_ID, id) else {
            continue;
        };
        if is_ours(&link).unwrap_or(false) {
            let mut attr = Attr::default();
            attr.words[0] = link.as_raw_fd() as u32;
            bpf(LINK_DETACH, &mut attr)?;
            detached += 1;
        }
    }
}
