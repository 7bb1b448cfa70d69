//! Writes cpio archives in the `newc` form the kernel unpacks as its initial file system.
//!
//! Owner, time and order are fixed, so that one set of files always gives the same bytes:
//! guests under exact time depend on it.

use std::collections::BTreeSet;

/// Archives are padded to this, so that another can follow in the same file.
const BLOCK: usize = 512;

/// An archive being written.
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            inode: 0,
            directories: BTreeSet::new(),
        }
    }

    /// Adds a directory and those above it.
    pub fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        self.parents(path);
        self.directories.insert(path.to_owned());
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    /// Adds a file everybody can read and run.
    pub fn file(&mut self, path: &str, data: &[u8]) {
        self.parents(path);
        self.entry(path, 0o100_755, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, 0o120_777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, 0o020_600, (major, minor), &[]);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.pad(BLOCK);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.trim_matches('/').rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let name = path.trim_start_matches('/');
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            u32::try_from(data.len()).expect("a file of less than 4 GiB"),
            0,
            0, // device the file is on
            device.0,
            device.1,
            u32::try_from(name.len() + 1).expect("a short name"),
            0, // no checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(data);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn directories_come_first_and_once() {
        let mut archive = Archive::new();
        archive.file("a/b/one", b"1");
        archive.file("a/b/two", b"2");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8(bytes).expect("only text went in");
        assert_eq!(text.matches("a/b\0").count(), 1);
        assert!(text.find("a/b\0") < text.find("a/b/one\0"));
        assert!(text.contains("TRAILER!!!"));
    }
}
