//! Every value of the chart does something, and templates use no other.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::helm::CHART;
use crate::workspace;

/// Handed on to Kubernetes as a whole, or to programs.
const WHOLE: [&str; 10] = [
    "affinity",
    "canary.nodeSelector",
    "global",
    "livenessProbe",
    "readinessProbe",
    "resources",
    "startupProbe",
    "tiers",
    "tolerations",
    "updateStrategy",
];

/// Walks the schema, which names every value.
pub fn check() -> Result<String> {
    let chart = workspace().join(CHART);
    let schema = fs::read_to_string(chart.join("values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema).context("values.schema.json")?;
    let values = fs::read_to_string(chart.join("values.yaml"))?;
    let mut templates = String::new();
    for directory in ["templates", "templates/tests"] {
        for entry in fs::read_dir(chart.join(directory))? {
            let path = entry?.path();
            if path.is_file() {
                templates.push_str(&fs::read_to_string(path)?);
            }
        }
    }
    let mut keys = Vec::new();
    walk(&schema, &schema, "", &mut keys);
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let unused: Vec<&String> = keys
        .iter()
        .filter(|key| *key != "global" && !key.starts_with("rbac."))
        .filter(|key| !word(&templates, &format!(".{}", last(key))))
        .collect();
    ensure!(unused.is_empty(), "no template uses {unused:?}");
    let undocumented: Vec<&String> = keys
        .iter()
        .filter(|key| *key != "global" && !values.contains(&format!("{}:", last(key))))
        .collect();
    ensure!(
        undocumented.is_empty(),
        "values.yaml lacks {undocumented:?}"
    );
    let unknown: Vec<&str> = templates
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.' && letter != '_')
        .filter_map(|word| word.split_once(".Values."))
        .map(|(_, path)| path)
        .filter(|path| {
            !keys
                .iter()
                .any(|key| key == path || key.starts_with(&format!("{path}.")))
        })
        .collect();
    ensure!(
        unknown.is_empty(),
        "templates use unknown values {unknown:?}"
    );
    Ok(format!("{} values", keys.len()))
}

fn walk(root: &Value, schema: &Value, path: &str, keys: &mut Vec<String>) {
    let pointer = schema["$ref"]
        .as_str()
        .and_then(|text| text.strip_prefix('#'));
    let schema = pointer
        .and_then(|text| root.pointer(text))
        .unwrap_or(schema);
    let whole = WHOLE.iter().any(|whole| path.ends_with(whole));
    match schema["properties"].as_object().filter(|_| !whole) {
        Some(properties) => {
            for (name, inner) in properties {
                let separator = if path.is_empty() { "" } else { "." };
                walk(root, inner, &format!("{path}{separator}{name}"), keys);
            }
        }
        None => keys.push(path.to_owned()),
    }
}

/// Whether a text has this, and no letter after it.
fn word(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        let next = text[at + wanted.len()..].chars().next();
        next.is_none_or(|letter| !letter.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn a_longer_key_is_another() {
        assert!(word("{{ .a.tag }}", ".tag"));
        assert!(!word("{{ .a.tags }}", ".tag"));
    }
}
