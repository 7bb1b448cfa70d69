//! The guest's file system: an initramfs with a shell, some tools of this machine, and the programs
//! that the caller names, each with the libraries it needs. Images are cached by a hash of all that is in them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cache, command, guest::VmOptions, hash, kernel::Kernel, newc::Archive, program};

/// The guest's first program.
const INIT: &str = include_str!("guest-init.sh");

/// Programs of the machine that guests have besides busybox, and the package of each.
const TOOLS: [(&str, &str); 6] = [
    ("chrt", "util-linux"),
    ("setpriv", "util-linux"),
    ("cyclictest", "rt-tests"),
    ("hackbench", "rt-tests"),
    ("stress-ng", "stress-ng"),
    ("memcached", "memcached"),
];

/// The users of a guest: root, and one for programs that may not be root.
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nnobody:x:65534:\n";

/// Directories that are mount points or expected to exist.
const DIRECTORIES: [&str; 8] = ["proc", "sys", "dev", "tmp", "run", "root", "etc", "var/log"];

/// How many images stay in the cache.
const KEEP: usize = 8;

/// The image with the programs and files of `options`, and these modules, built unless the cache
/// has it. Modules that the kernel has built in are left out.
///
/// # Errors
///
/// Busybox, a tool of the guest or a library is missing on this machine, a file of `options` cannot be read, xz or
/// strip fails, or the cache cannot be written.
pub fn base(kernel: &Kernel, options: &VmOptions, modules: &[&str]) -> Result<PathBuf> {
    let busybox =
        program::find("busybox").context("busybox is missing: run `cargo xtask setup`")?;
    let mut files = BTreeMap::from([("bin/busybox".to_owned(), busybox.clone())]);
    if let Some(config) = &kernel.config
        && options.boot_config
    {
        files.insert(format!("boot/config-{}", kernel.release), config.clone());
    }
    let mut wanted = Vec::new();
    for (name, package) in TOOLS {
        wanted.push(program::find(name).with_context(|| {
            format!("{name} (of {package}) is missing: run `cargo xtask setup`")
        })?);
    }
    wanted.extend_from_slice(&options.programs);
    for program in &wanted {
        let name = program.file_name().context("a program needs a name")?;
        files.insert(
            format!("usr/bin/{}", name.to_string_lossy()),
            program.clone(),
        );
        for library in program::libraries(program)? {
            let place = library.to_string_lossy().trim_start_matches('/').to_owned();
            files.insert(place, library);
        }
    }
    for file in &options.files {
        let place = |file: &Path| file.to_string_lossy().trim_start_matches('/').to_owned();
        files.insert(place(file), file.clone());
        if fs::metadata(file)?.permissions().mode() & 0o111 != 0 {
            for library in program::libraries(file)? {
                files.insert(place(&library), library);
            }
        }
    }
    let found = modules.iter().enumerate().filter_map(|(order, module)| {
        let file = kernel.modules.as_ref()?.join(format!("{module}.ko.xz"));
        Some((order, file)).filter(|(_, file)| file.is_file())
    });
    for (order, file) in found {
        files.insert(format!("lib/modules/{order}.ko.xz"), file);
    }

    let path = cache::dir("images")?.join(format!("{}.cpio", key(&files)?));
    if path.is_file() {
        // Recently used images survive pruning.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
        return Ok(path);
    }
    cache::write_whole(&path, &pack(&busybox, &files)?)?;
    cache::prune(&cache::dir("images")?, KEEP)?;
    Ok(path)
}

/// The small second archive with the command of one run, and a script for it: an argument is
/// at most 128 KiB long.
pub fn command_archive(arguments: &[String], script: &str) -> Vec<u8> {
    let quoted: Vec<String> = arguments.iter().map(|arg| quote(arg)).collect();
    let mut archive = Archive::new();
    archive.file(
        "infera/command",
        format!("#!/bin/sh\nexec {}\n", quoted.join(" ")).as_bytes(),
    );
    archive.file("infera/script", script.as_bytes());
    archive.finish()
}

/// The name of an image: a hash of all that goes into it.
fn key(files: &BTreeMap<String, PathBuf>) -> Result<String> {
    let sources: Vec<PathBuf> = files.values().cloned().collect();
    let mut text = format!("{INIT}\n{PASSWD:?} {GROUP:?} {DIRECTORIES:?} stripped\n");
    for (place, hash) in files.keys().zip(hash::files(&sources)?) {
        text.push_str(&format!("{place} {hash}\n"));
    }
    Ok(hash::text(&text)[..16].to_owned())
}

fn pack(busybox: &Path, files: &BTreeMap<String, PathBuf>) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for directory in DIRECTORIES {
        archive.directory(directory);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    archive.file("init", INIT.as_bytes());
    archive.file("etc/passwd", PASSWD);
    archive.file("etc/group", GROUP);
    for (place, source) in files {
        match place.strip_suffix(".xz") {
            // The guest's insmod knows nothing of compression.
            Some(place) => archive.file(place, &unpacked(source)?),
            None => archive.file(place, &contents(source)?),
        }
    }
    for applet in command::output(Command::new(busybox).arg("--list"))?.lines() {
        let program = format!("usr/bin/{applet}");
        if applet != "busybox" && !files.contains_key(&program) {
            archive.symlink(&format!("bin/{applet}"), "busybox");
        }
    }
    Ok(archive.finish())
}

fn unpacked(source: &Path) -> Result<Vec<u8>> {
    let output = Command::new("xz").arg("-dc").arg(source).output();
    let output = output.context("cannot start xz: run `cargo xtask setup`")?;
    if !output.status.success() {
        bail!("cannot unpack {}", source.display());
    }
    Ok(output.stdout)
}

/// A file without its debug information, which would be most of the image: unpacking that
/// takes longer than booting.
fn contents(source: &Path) -> Result<Vec<u8>> {
    let cannot_read = || format!("cannot read {}", source.display());
    let data = fs::read(source).with_context(cannot_read)?;
    if !data.starts_with(b"\x7fELF") {
        return Ok(data);
    }
    let stripped = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    command::run(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(stripped.path())
            .arg(source),
    )?;
    fs::read(stripped.path()).with_context(cannot_read)
}

/// One argument as a shell reads it back.
fn quote(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn arguments_survive_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
