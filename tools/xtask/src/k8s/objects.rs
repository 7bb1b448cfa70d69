//! What the tests put into the API server, and how they speak.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{cluster::Cluster, process::wait_for};
use crate::workspace;

/// What must not take long takes less than this.
pub const SOON: Duration = Duration::from_secs(30);

/// One more thing is as promised.
pub fn done(sentence: &str) {
    println!("ok    {sentence}");
}

/// The chart's account, rights and classes, as they are checked in.
pub fn rights(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "namespace", "infera"])?;
    let manifests = fs::read_to_string(workspace().join("deploy/helm/golden/default.yaml"))?;
    let wanted = manifests.split("\n---").filter(|object| {
        let kinds = [
            "ServiceAccount",
            "ClusterRole",
            "ClusterRoleBinding",
            "Role",
            "RoleBinding",
            "PriorityClass",
        ];
        kinds
            .iter()
            .any(|kind| object.contains(&format!("\nkind: {kind}\n")))
    });
    let wanted: Vec<&str> = wanted.collect();
    let applied = cluster.try_kubectl(&["apply", "-f", "-"], &wanted.join("\n---\n"))?;
    applied.ok("kubectl apply")?;
    wait_for("the namespace's account", SOON, || {
        cluster.kubectl(&["get", "serviceaccount", "default"])
    })?;
    Ok(())
}

/// A pod on `node`.
pub fn pod_object(
    node: &str,
    name: &str,
    class: &str,
    resources: &Value,
    annotations: &Value,
) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none", "resources": resources}]},
    });
    if !class.is_empty() {
        pod["spec"]["priorityClassName"] = json!(class);
    }
    pod
}

/// Creates a pod on `node`.
pub fn pod(
    cluster: &Cluster,
    node: &str,
    name: &str,
    class: &str,
    resources: &Value,
    annotations: &Value,
) -> Result<()> {
    cluster.create(&pod_object(node, name, class, resources, annotations))
}
