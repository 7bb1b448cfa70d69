//! Guests: boots a kernel in QEMU, runs one command in it, and gives back what it printed
//! and how it ended.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cache, image,
    kernel::{self, Kernel},
    kvm, program,
};

/// What `timeout` exits with, and so does a run that was cut off.
pub const TIMED_OUT: i32 = 124;

/// Stands before the exit status, and nowhere in a command's text.
const SEPARATOR: u8 = 0x1e;

/// How many lines of the guest's kernel log a failure shows.
const TAIL: usize = 60;

/// How many kernel logs stay in the cache.
const KEEP: usize = 100;

/// How long a guest that has said its status may take to power off.
const POWER_OFF: Duration = Duration::from_secs(10);

/// The network card's driver where it is not in the kernel itself, in the order of loading.
const NETWORK: [&str; 3] = [
    "kernel/net/core/failover",
    "kernel/drivers/net/net_failover",
    "kernel/drivers/net/virtio_net",
];

/// The same for a disk and what is on it.
const DISK: [&str; 4] = [
    "kernel/drivers/block/virtio_blk",
    "kernel/drivers/block/loop",
    "kernel/fs/squashfs/squashfs",
    "kernel/fs/overlayfs/overlay",
];

const POLL: Duration = Duration::from_millis(5);

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// KVM where a guest has been seen to boot with it, emulation elsewhere.
    #[default]
    Probed,
    /// Emulation.
    Tcg,
    /// The machine's virtualisation.
    Kvm,
}

/// The shape of a guest.
#[derive(Clone, Debug)]
pub struct VmOptions {
    /// The beginning of a cached kernel's release, the path of a kernel image, or the newest.
    pub kernel: String,
    /// CPUs. A topology goes before it.
    pub cpus: u32,
    /// Sockets, cores in each, threads in each core.
    pub topology: Option<[u32; 3]>,
    /// MiB.
    pub memory: u32,
    /// Virtual time counts instructions, one CPU runs at a time, and everything random is
    /// seeded: two runs of one command print the same bytes.
    pub exact: bool,
    /// The seed of an exact run.
    pub seed: u64,
    /// In an exact run, QEMU runs every CPU at least once in this many virtual microseconds.
    pub turn_us: Option<u32>,
    /// In an exact run, an instruction takes 2 to the power of this virtual nanoseconds: a
    /// slower machine, whose hours pass faster here.
    pub shift: u8,
    /// After how long on the host's clock the guest is cut off.
    pub timeout: Duration,
    /// More of the kernel's command line.
    pub append: String,
    /// A network card, behind which 10.0.2.2 is this machine's loopback. Exact time then follows
    /// the host's clock while the guest has nothing to do, and no two runs are the same.
    pub network: bool,
    /// A squashfs with a whole system, which takes over from the initial file system and runs
    /// `/infera/test` in its own way.
    pub disk: Option<PathBuf>,
    /// Programs to have in the guest's /usr/bin.
    pub programs: Vec<PathBuf>,
    /// Have the kernel's configuration in /boot, as on most machines and in few containers.
    pub boot_config: bool,
    /// Files to have where they are on this machine.
    pub files: Vec<PathBuf>,
    /// A plugin of QEMU's, with its options.
    pub plugin: Option<String>,
    /// What the guest has in `/infera/script`.
    pub script: String,
    /// What executes the guest. Exact runs are always emulated.
    pub accelerator: Accelerator,
    /// The guest is frozen for this time whenever it prints this line. Its clock goes on meanwhile, but not in an exact run.
    pub freeze_at: Option<(&'static str, Duration)>,
}

impl Default for VmOptions {
    fn default() -> Self {
        Self {
            kernel: kernel::NEWEST.to_owned(),
            cpus: 4,
            topology: None,
            memory: 2048,
            exact: false,
            seed: 1,
            turn_us: None,
            shift: 0,
            timeout: Duration::from_secs(300),
            append: String::new(),
            network: false,
            disk: None,
            programs: Vec::new(),
            boot_config: false,
            files: Vec::new(),
            plugin: None,
            script: String::new(),
            accelerator: Accelerator::default(),
            freeze_at: None,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status, or [`TIMED_OUT`].
    pub status: i32,
    /// Whether the run was cut off.
    pub timed_out: bool,
    /// All it printed, on either stream.
    pub output: String,
    /// The guest's kernel log.
    pub console: PathBuf,
}

/// Runs a command in a guest, and passes on each line it prints as it comes. A command that fails or is cut off is no error:
/// [`Outcome::status`].
///
/// # Errors
///
/// There is no such kernel, a program or QEMU is missing, the image cannot be written, or the guest ended without the
/// command's status: then the error has the end of its kernel log.
pub fn run(options: &VmOptions, command: &[String], mut sink: impl FnMut(&str)) -> Result<Outcome> {
    let mut partial = Vec::new();
    let outcome = run_bytes(options, command, |bytes| {
        partial.extend_from_slice(bytes);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            sink(&String::from_utf8_lossy(&line[..end]));
        }
    });
    if !partial.is_empty() {
        sink(&String::from_utf8_lossy(&partial));
    }
    outcome
}

/// Like [`run`], with the output passed on unchanged.
///
/// # Errors
///
/// As [`run`].
pub fn run_bytes(
    options: &VmOptions,
    command: &[String],
    mut sink: impl FnMut(&[u8]),
) -> Result<Outcome> {
    let kernel = Kernel::find(&options.kernel)?;
    let modules: &[&str] = match (&options.disk, options.network) {
        (Some(_), _) => &DISK,
        (None, true) => &NETWORK,
        (None, false) => &[],
    };
    let base = image::base(&kernel, options, modules)?;
    let accelerator = match options.accelerator {
        _ if options.exact => Accelerator::Tcg,
        Accelerator::Probed => kvm::probe(&kernel, options)?,
        chosen => chosen,
    };

    let scratch = tempfile::Builder::new()
        .prefix("infera-vm-")
        .tempdir()
        .context("cannot create a temporary directory")?;
    let initrd = scratch.path().join("initrd");
    let channel = scratch.path().join("output");
    fs::copy(&base, &initrd).context("cannot copy the guest image")?;
    append(&initrd, &image::command_archive(command, &options.script))?;
    fs::write(&channel, "")?;
    let console = console_path(&kernel)?;

    let mut qemu = qemu(options, accelerator, &kernel);
    if let Some(plugin) = &options.plugin {
        qemu.arg("-plugin").arg(plugin);
    }
    qemu.arg("-initrd").arg(&initrd);
    qemu.arg("-serial")
        .arg(format!("file:{}", console.display()));
    qemu.arg("-chardev")
        .arg(format!("file,id=output,path={}", channel.display()));
    let messages = scratch.path().join("qemu");
    qemu.stdin(Stdio::null())
        .stdout(fs::File::create(&messages)?)
        .stderr(fs::File::options().append(true).open(&messages)?);
    let mut guest = Guest(
        qemu.spawn()
            .context("cannot start qemu-system-x86_64: run `cargo xtask setup`")?,
    );

    let mut output = Output::open(&channel)?;
    let mut freezes = 0;
    let started = Instant::now();
    loop {
        // In this order: what a guest wrote before it ended is read.
        let ended = guest.0.try_wait()?;
        output.read(&mut sink)?;
        if let Some((line, time)) = options.freeze_at {
            while freezes < output.count(line) {
                guest.freeze(time)?;
                freezes += 1;
            }
        }
        if output.status.is_some() {
            guest.power_off()?;
            break;
        }
        if ended.is_some() || started.elapsed() >= options.timeout {
            break;
        }
        thread::sleep(POLL);
    }
    let timed_out = output.status.is_none() && guest.0.try_wait()?.is_none();
    drop(guest);
    let status = match output.status {
        Some(status) => status,
        None if timed_out => TIMED_OUT,
        None => bail!(
            "the guest ended without the command's status\n{}{}",
            fs::read_to_string(&messages).unwrap_or_default(),
            console_tail(&console)
        ),
    };
    Ok(Outcome {
        status,
        timed_out,
        output: String::from_utf8_lossy(&output.text).into_owned(),
        console,
    })
}

/// The end of a guest's kernel log, and where the rest is.
pub fn console_tail(console: &Path) -> String {
    let log = fs::read(console).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL)..];
    format!(
        "{}\nthe guest's kernel log is in {}",
        tail.join("\n"),
        console.display()
    )
}

/// A new file for a guest's kernel log.
fn console_path(kernel: &Kernel) -> Result<PathBuf> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let logs = cache::dir("logs")?;
    cache::prune(&logs, KEEP)?;
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let name = format!(
        "console-{}-{}-{run}.log",
        kernel.release,
        std::process::id()
    );
    Ok(logs.join(name))
}

fn append(path: &Path, data: &[u8]) -> Result<()> {
    use std::io::Write;
    fs::File::options()
        .append(true)
        .open(path)?
        .write_all(data)?;
    Ok(())
}

/// The command that starts the machine, without this run's files.
fn qemu(options: &VmOptions, accelerator: Accelerator, kernel: &Kernel) -> Command {
    let mut command = match program::find("setpriv") {
        // The guest ends with this program, however that ends.
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
            command
        }
        None => Command::new("qemu-system-x86_64"),
    };
    command.args(["-machine", "q35", "-nodefaults", "-no-user-config"]);
    command.args(["-display", "none", "-no-reboot"]);
    let smp = match options.topology {
        Some([sockets, cores, threads]) => {
            format!("sockets={sockets},cores={cores},threads={threads}")
        }
        None => format!("cpus={0},sockets=1,cores={0},threads=1", options.cpus),
    };
    command.arg("-smp").arg(smp);
    if let Some(disk) = &options.disk {
        let disk = disk.display();
        command.arg("-drive");
        command.arg(format!("file={disk},format=raw,if=virtio,readonly=on"));
    }
    if options.network {
        command.args(["-netdev", "user,id=outside", "-device"]);
        command.arg("virtio-net-pci,netdev=outside,romfile=");
    } else {
        command.args(["-nic", "none"]);
    }
    command.arg("-m").arg(options.memory.to_string());
    // Not a serial port: that costs an exit from the guest for every byte. And no ioeventfd,
    // which would serve the guest's writes on another thread, whenever that runs: exact runs
    // would differ.
    command.args(["-device", "virtio-serial-pci,max_ports=1,ioeventfd=off"]);
    command.args(["-device", "virtconsole,chardev=output"]);

    let mut line = "console=ttyS0 panic=-1 quiet loglevel=4".to_owned();
    if options.exact {
        command.args(["-accel", "tcg,thread=single"]);
        command.arg("-icount");
        let sleep = if options.network { "on" } else { "off" };
        command.arg(format!("shift={},sleep={sleep}", options.shift));
        if let Some(us) = options.turn_us {
            // QEMU's CPUs take turns from one timer of its virtual clock to the next. This one
            // comes from a network without a device: the guest sees nothing of it.
            command.args(["-netdev", "hubport,id=turns,hubid=0", "-object"]);
            command.arg(format!(
                "filter-buffer,id=turn,netdev=turns,queue=rx,interval={us}"
            ));
        }
        command.args(["-cpu", "qemu64,-rdrand,-rdseed"]);
        if options.network {
            // Certificates and tokens are of today.
            command.args(["-rtc", "base=utc,clock=vm"]);
        } else {
            command.args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
        }
        command.arg("-seed").arg(options.seed.to_string());
        line.push_str(" nokaslr random.trust_cpu=off random.trust_bootloader=off");
    } else if accelerator == Accelerator::Kvm {
        command.args(["-accel", "kvm", "-cpu", "host"]);
    } else {
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]);
    }
    if !options.append.is_empty() {
        line.push(' ');
        line.push_str(&options.append);
    }
    command.arg("-kernel").arg(&kernel.image);
    command.arg("-append").arg(line);
    command
}

/// A running QEMU, which does not outlive this.
struct Guest(Child);

impl Guest {
    /// Stops QEMU's process for this time.
    fn freeze(&self, time: Duration) -> Result<()> {
        let process = Pid::from_child(&self.0);
        kill_process(process, Signal::STOP).context("freezing the guest")?;
        thread::sleep(time);
        kill_process(process, Signal::CONT).context("letting the guest go on")
    }

    /// Waits for the guest to end by itself.
    fn power_off(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < POWER_OFF && self.0.try_wait()?.is_none() {
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file a guest's output goes to. A file and not a pipe: a guest under exact time must
/// not wait for its reader.
struct Output {
    file: fs::File,
    /// What came from the separator on: the status, once it is complete.
    frame: Vec<u8>,
    text: Vec<u8>,
    status: Option<i32>,
}

impl Output {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: fs::File::open(path)?,
            frame: Vec::new(),
            text: Vec::new(),
            status: None,
        })
    }

    /// How many lines of it are this one.
    fn count(&self, line: &str) -> usize {
        let text = String::from_utf8_lossy(&self.text);
        text.lines().filter(|printed| *printed == line).count()
    }

    /// Takes what has been written since the last time.
    fn read(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        self.take(&bytes, sink);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        let mut rest = bytes;
        while !rest.is_empty() && self.status.is_none() {
            if self.frame.is_empty() {
                let end = rest.iter().position(|byte| *byte == SEPARATOR);
                let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
                self.pass(text, sink);
                self.frame.extend(after.first());
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
            let (byte, after) = (rest[0], &rest[1..]);
            if byte == b'\n' {
                let digits = std::str::from_utf8(&self.frame[1..]).unwrap_or_default();
                self.status = digits.parse().ok();
            }
            if byte == b'\n' && self.status.is_some() {
                return;
            }
            if byte.is_ascii_digit() {
                self.frame.push(byte);
                rest = after;
            } else {
                // It was the command's own after all.
                let text = std::mem::take(&mut self.frame);
                self.pass(&text, sink);
            }
        }
    }

    fn pass(&mut self, text: &[u8], sink: &mut impl FnMut(&[u8])) {
        if !text.is_empty() {
            self.text.extend_from_slice(text);
            sink(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;

    fn taken(pieces: &[&[u8]]) -> (Vec<u8>, Option<i32>) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut output = Output::open(file.path()).expect("it exists");
        let mut passed = Vec::new();
        for piece in pieces {
            output.take(piece, &mut |bytes| passed.extend_from_slice(bytes));
        }
        assert_eq!(passed, output.text);
        (passed, output.status)
    }

    #[test]
    fn the_status_is_behind_the_separator() {
        assert_eq!(taken(&[b"a\nb\x1e3\n"]), (b"a\nb".to_vec(), Some(3)));
        assert_eq!(
            taken(&[b"a\x1e1", b"2", b"4\n"]),
            (b"a".to_vec(), Some(124))
        );
        assert_eq!(taken(&[b"a\n"]), (b"a\n".to_vec(), None));
        assert_eq!(
            taken(&[b"a\x1eb\n\x1e0\n"]),
            (b"a\x1eb\n".to_vec(), Some(0))
        );
        assert_eq!(
            taken(&[b"\x1e\n\x1e\x1e7\n"]),
            (b"\x1e\n\x1e".to_vec(), Some(7))
        );
    }
}
