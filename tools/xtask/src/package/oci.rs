//! An OCI image in a tar file, for `skopeo copy oci-archive:` and `ctr image import`. One layer,
//! nothing in it but the programs and what they link to.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Parts, tree::mode};
use crate::program;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Makes `infera.oci.tar` in `out`.
pub fn make(parts: &Parts, programs: &[PathBuf], out: &Path) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let mut files: BTreeMap<String, (Vec<u8>, u32)> = BTreeMap::new();
    for (place, file) in &parts.tree.0 {
        files.insert(place.clone(), (file.bytes.clone(), mode(file)));
    }
    for program in programs {
        for library in program::libraries(program)? {
            let bytes =
                fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
            // Where the loader, whose path is in the programs, looks.
            let place = library.to_string_lossy().trim_start_matches('/').to_owned();
            files.insert(place, (bytes, 0o755));
        }
    }
    files.insert(
        "etc/passwd".into(),
        (b"root:x:0:0:root:/:/sbin/nologin\n".to_vec(), 0o644),
    );
    let plain = archive(&files, parts.epoch)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&plain)?;
    let layer = packed.finish()?;

    let created = rfc3339(parts.epoch)?;
    let config = json!({
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/infera-agent"],
            "Env": ["PATH=/usr/bin"],
            "Labels": {
                "org.opencontainers.image.title": "infera",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "GPL-2.0-only AND Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&plain)]},
        "history": [{"created": created, "created_by": "cargo xtask package"}],
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, &config),
        "layers": [described(LAYER, &layer)],
        "annotations": {"org.opencontainers.image.version": version},
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = described(MANIFEST, &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": version});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});

    let mut parts_of_image = BTreeMap::from([
        (
            "oci-layout".to_owned(),
            (br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(), 0o644),
        ),
        (
            "index.json".to_owned(),
            (index.to_string().into_bytes(), 0o644),
        ),
    ]);
    for blob in [layer, config, manifest] {
        let place = format!("blobs/{}", digest(&blob).replace(':', "/"));
        parts_of_image.insert(place, (blob, 0o644));
    }
    let path = out.join("infera.oci.tar");
    fs::write(&path, archive(&parts_of_image, parts.epoch)?)?;
    Ok(path)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn described(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

/// A tar of these files and their directories, the same bytes for the same files.
fn archive(files: &BTreeMap<String, (Vec<u8>, u32)>, epoch: u64) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut made = std::collections::BTreeSet::new();
    let header = |mode: u32, size: usize, kind: tar::EntryType| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(epoch);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(kind);
        header
    };
    for (place, (bytes, mode)) in files {
        let above: Vec<&Path> = Path::new(place).ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            if directory.as_os_str().is_empty() || !made.insert(directory.to_owned()) {
                continue;
            }
            let mut header = header(0o755, 0, tar::EntryType::Directory);
            tar.append_data(&mut header, directory, &[][..])?;
        }
        let mut header = header(*mode, bytes.len(), tar::EntryType::Regular);
        tar.append_data(&mut header, place, &bytes[..])?;
    }
    Ok(tar.into_inner()?)
}

/// Seconds since 1970 as RFC 3339 has them.
pub fn rfc3339(seconds: u64) -> Result<String> {
    let seconds = i64::try_from(seconds)?;
    Ok(jiff::Timestamp::from_second(seconds)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_directories_before_files_and_is_always_the_same() {
        let files = BTreeMap::from([
            ("usr/bin/x".to_owned(), (b"x".to_vec(), 0o755)),
            ("usr/lib/y".to_owned(), (b"y".to_vec(), 0o644)),
        ]);
        let bytes = archive(&files, 7).unwrap();
        assert_eq!(bytes, archive(&files, 7).unwrap());
        let mut read = tar::Archive::new(&bytes[..]);
        let names: Vec<String> = read
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["usr", "usr/bin", "usr/bin/x", "usr/lib", "usr/lib/y"]
        );
    }
}
