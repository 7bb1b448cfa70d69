//! Whether the machine's virtualisation really boots a guest: `/dev/kvm` may exist and not.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;

use crate::{
    cache, command,
    guest::{self, Accelerator, VmOptions},
    kernel::Kernel,
};

/// How long a guest that does nothing may take.
const LIMIT: Duration = Duration::from_secs(15);

/// What to run guests of this kernel with. The answer is remembered for this kernel and the
/// machine's own.
///
/// # Errors
///
/// There is no `uname`, or the cache cannot be written. A trial guest that does not run, for whatever reason, is no
/// error: it is remembered as a machine without KVM.
pub fn probe(kernel: &Kernel, options: &VmOptions) -> Result<Accelerator> {
    let device = Path::new("/dev/kvm");
    if fs::File::options()
        .read(true)
        .write(true)
        .open(device)
        .is_err()
    {
        return Ok(Accelerator::Tcg);
    }
    let host = command::output(Command::new("uname").arg("-r"))?;
    let name = format!("{}-on-{}", &kernel.sha256[..12], host.trim());
    let answer = cache::dir("kvm")?.join(name);
    let boots = if let Ok(known) = fs::read_to_string(&answer) {
        known.trim() == "yes"
    } else {
        let trial = VmOptions {
            kernel: options.kernel.clone(),
            timeout: LIMIT,
            accelerator: Accelerator::Kvm,
            ..VmOptions::default()
        };
        let outcome = guest::run(&trial, &["true".to_owned()], |_| ());
        let boots = outcome.is_ok_and(|outcome| outcome.status == 0);
        cache::write_whole(&answer, if boots { b"yes\n" } else { b"no\n" })?;
        boots
    };
    Ok(if boots {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}
