//! The Prometheus operator's resource definitions, from its Go module.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{go, programs::PROMETHEUS_OPERATOR};
use crate::cache;

/// The kinds that charts use.
const KINDS: [&str; 3] = ["podmonitors", "prometheusrules", "servicemonitors"];

/// Files with the definitions, put into the cache unless they are there.
pub fn get() -> Result<Vec<PathBuf>> {
    let cache = cache::dir("k8s")?.join(format!("prometheus-operator-{PROMETHEUS_OPERATOR}"));
    let names = KINDS.map(|kind| format!("monitoring.coreos.com_{kind}.yaml"));
    let places: Vec<PathBuf> = names.iter().map(|name| cache.join(name)).collect();
    if places.iter().all(|place| place.is_file()) {
        return Ok(places);
    }
    let module = "github.com/prometheus-operator/prometheus-operator";
    let downloaded = go::download(module, PROMETHEUS_OPERATOR)?;
    let theirs = downloaded["Dir"]
        .as_str()
        .context("go names no directory")?;
    fs::create_dir_all(&cache)?;
    for (name, place) in names.iter().zip(&places) {
        let file = PathBuf::from(theirs)
            .join("example/prometheus-operator-crd")
            .join(name);
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        cache::write_whole(place, &text)?;
    }
    Ok(places)
}
