//! What is in the packages: every crate, by Cargo's own resolution, and every library that the
//! programs link to; as SPDX, and as text with the licences themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::oci::rfc3339;
use crate::{command, hash, program, workspace};

/// Something that is in a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression.
    pub licence: String,
    /// A package URL.
    pub url: String,
    /// The texts of its licences.
    pub texts: Vec<String>,
}

/// Of these programs.
pub fn components(names: &[&str], programs: &[PathBuf]) -> Result<Vec<Component>> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(workspace());
    let metadata: Value = serde_json::from_str(&command::output(&mut cargo)?)?;
    let mut found: BTreeSet<Component> = linked(&metadata, names)
        .iter()
        .map(|package| crate_of(package))
        .collect();
    for program in programs {
        for library in program::libraries(program)? {
            found.extend(library_of(&library));
        }
    }
    Ok(found.into_iter().collect())
}

/// The packages that the programs link: not those for tests or builds alone.
fn linked<'a>(metadata: &'a Value, roots: &[&str]) -> Vec<&'a Value> {
    let list = |value: &'a Value| value.as_array().map_or(&[][..], Vec::as_slice);
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let is_root = |package: &&Value| {
        let name = package["name"].as_str().unwrap_or_default();
        roots.contains(&name)
    };
    let mut waiting: Vec<&str> = packages
        .values()
        .filter(|package| is_root(package))
        .filter_map(|package| package["id"].as_str())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).map_or(&[][..], |node| list(&node["deps"])) {
            let normal = list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null());
            waiting.extend(dependency["pkg"].as_str().filter(|_| normal));
        }
    }
    seen.iter()
        .filter_map(|id| packages.get(id).copied())
        .collect()
}

fn crate_of(package: &Value) -> Component {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let manifest = PathBuf::from(text("manifest_path"));
    let directory = manifest.parent().unwrap_or(Path::new("/"));
    let ours = package["source"].is_null();
    Component {
        url: format!("pkg:cargo/{}@{}", text("name"), text("version")),
        name: text("name"),
        version: text("version"),
        licence: match text("license") {
            licence if licence.is_empty() => "NOASSERTION".into(),
            // As crates wrote it before SPDX.
            licence => licence.replace('/', " OR "),
        },
        texts: if ours { Vec::new() } else { texts(directory) },
    }
}

/// The licence files of a directory.
fn texts(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_uppercase();
            ["LICENSE", "LICENCE", "COPYING", "NOTICE"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

/// A library of the distribution, by the package that has it.
fn library_of(library: &Path) -> Option<Component> {
    let real = fs::canonicalize(library).ok()?;
    // Before directories were merged into /usr, packages had them elsewhere.
    let short = real
        .strip_prefix("/usr")
        .ok()
        .map(|path| Path::new("/").join(path));
    let owner = [Some(real), short].into_iter().flatten().find_map(|path| {
        let output = Command::new("dpkg-query")
            .arg("-S")
            .arg(path)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.split_once(": ")?.0.to_owned())
    })?;
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${Package} ${Version}", &owner]);
    let text = command::output(&mut query).ok()?;
    let (name, version) = text.split_once(' ')?;
    let copyright = fs::read_to_string(format!("/usr/share/doc/{name}/copyright"));
    Some(Component {
        url: format!("pkg:deb/debian/{name}@{version}"),
        licence: match name {
            "libc6" | "libseccomp2" => "LGPL-2.1-or-later",
            "libelf1" | "libelf1t64" => "LGPL-3.0-or-later OR GPL-2.0-or-later",
            "zlib1g" => "Zlib",
            "libgcc-s1" => "GPL-3.0-or-later WITH GCC-exception-3.1",
            "libzstd1" => "BSD-3-Clause OR GPL-2.0-only",
            _ => "NOASSERTION",
        }
        .into(),
        name: name.to_owned(),
        version: version.to_owned(),
        texts: copyright.into_iter().collect(),
    })
}

/// An SPDX document.
pub fn document(components: &[Component], epoch: u64) -> Result<String> {
    let packages: Vec<Value> = components
        .iter()
        .map(|component| {
            json!({
                "SPDXID": id(component),
                "name": component.name,
                "versionInfo": component.version,
                "downloadLocation": "NOASSERTION",
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": component.licence,
                "copyrightText": "NOASSERTION",
                "externalRefs": [{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": component.url,
                }],
            })
        })
        .collect();
    let relationships: Vec<Value> = components
        .iter()
        .map(|component| {
            json!({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                "relatedSpdxElement": id(component)})
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let listed: String = components.iter().map(|it| it.url.clone() + "\n").collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("infera-{version}"),
        "documentNamespace": format!("https://infera.io/spdx/{version}/{}", &hash::text(&listed)[..16]),
        "creationInfo": {"created": rfc3339(epoch)?, "creators": ["Tool: cargo xtask package"]},
        "packages": packages,
        "relationships": relationships,
    });
    serde_json::to_string_pretty(&document).context("strings and lists alone")
}

fn id(component: &Component) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = component.url.chars().map(plain).collect();
    format!("SPDXRef-{name}")
}

/// The same for people, with each text once.
pub fn licences(components: &[Component]) -> String {
    let mut text = "What is in this package, and under which licence.\n\n".to_owned();
    for component in components {
        text += &format!(
            "{} {}: {}\n",
            component.name, component.version, component.licence
        );
    }
    let mut by_text: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for component in components {
        let name = format!("{} {}", component.name, component.version);
        for licence in &component.texts {
            by_text
                .entry(licence.trim())
                .or_default()
                .push(name.clone());
        }
    }
    for (licence, names) in by_text {
        text += &format!("\n{}\n{}\n\n{licence}\n", "=".repeat(72), names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_is_not() {
        let dependency = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let packages = ["root", "used", "deeper", "build", "test", "other"].map(|name| {
            json!({"id": name, "name": name, "version": "1", "license": "MIT/Apache-2.0",
                "manifest_path": "/nowhere/Cargo.toml"})
        });
        let metadata = json!({
            "packages": packages,
            "resolve": {"nodes": [
                {"id": "root", "deps": [dependency("used", Value::Null),
                    dependency("build", json!("build")), dependency("test", json!("dev"))]},
                {"id": "used", "deps": [dependency("deeper", Value::Null)]},
            ]},
        });
        let names: Vec<&str> = linked(&metadata, &["root"])
            .iter()
            .map(|package| package["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["deeper", "root", "used"]);
        let component = crate_of(&metadata["packages"][1]);
        assert_eq!(component.licence, "MIT OR Apache-2.0");
        let text = licences(std::slice::from_ref(&component));
        assert!(text.contains("used 1: MIT OR Apache-2.0"), "{text}");
        assert!(
            document(&[component], 0)
                .unwrap()
                .contains("pkg:cargo/used@1")
        );
    }
}
