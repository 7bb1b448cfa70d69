//! What the agent writes to its node: annotations, a condition, events.

use infera_pods::Keys;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Owns the agent's fields in server-side apply, and signs its events.
pub const MANAGER: &str = "infera-agent";
/// The condition's type.
pub const CONDITION: &str = "InferaReady";

/// The time limit of a request to the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a node's annotations are to say.
pub type Annotations = BTreeMap<String, String>;

/// Puts `annotations` on the node, takes those off that were put there before and are not among
/// them, and leaves others' alone.
///
/// # Errors
///
/// The API server cannot be reached, does not answer within ten seconds, has no such node, or does not let the agent
/// patch nodes.
pub async fn annotate(client: Client, node: String, annotations: Annotations) -> kube::Result<()> {
    let patch = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node, "annotations": annotations},
    });
    // Forced: another manager that wrote to our keys did so by mistake.
    let parameters = PatchParams::apply(MANAGER).force();
    let nodes: Api<Node> = Api::all(client);
    patiently(nodes.patch_metadata(&node, &parameters, &Patch::Apply(&patch))).await
}

/// Sets the condition.
///
/// # Errors
///
/// As [`annotate`], for the right to patch the status of nodes.
pub async fn condition(
    client: Client,
    node: String,
    status: String,
    now: String,
) -> kube::Result<()> {
    let ready = status == "Ready";
    let patch = json!({"status": {"conditions": [{
        "type": CONDITION,
        "status": if ready { "True" } else { "False" },
        "reason": if ready { "Enforcing" } else { "NotEnforcing" },
        "message": status,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }]}});
    let nodes: Api<Node> = Api::all(client);
    let parameters = PatchParams::default();
    patiently(nodes.patch_status(&node, &parameters, &Patch::Strategic(&patch))).await
}

/// An event about the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether an operator should act.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// Publishes an event about the node. The same again raises its count and makes no new one.
///
/// # Errors
///
/// The API server cannot be reached, does not answer within ten seconds, or does not let the agent create or patch
/// events.
pub async fn notify(recorder: Recorder, node: String, notice: Notice) -> kube::Result<()> {
    let event = Event {
        type_: match notice.warning {
            true => EventType::Warning,
            false => EventType::Normal,
        },
        reason: notice.reason.into(),
        note: Some(notice.note),
        action: "Scheduling".into(),
        secondary: None,
    };
    let reference = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(node.clone()),
        // Nodes have no namespace, and older servers refuse events without one.
        namespace: Some("default".into()),
        // What the kubelet uses: kubectl describe node finds it by that.
        uid: Some(node),
        ..ObjectReference::default()
    };
    patiently(recorder.publish(&event, &reference)).await
}

/// A recorder of events.
#[must_use]
pub fn recorder(client: Client, node: &str) -> Recorder {
    let reporter = Reporter {
        controller: MANAGER.into(),
        instance: Some(node.to_owned()),
    };
    Recorder::new(client, reporter)
}

/// Removes all that the agent wrote, from one node or from all; how many there were.
///
/// # Errors
///
/// The nodes cannot be listed, or a node cannot be patched ([`annotate`]): the nodes after it keep what they have. A
/// condition that the agent has no right to remove is no error.
pub async fn clean_up(client: Client, keys: &Keys, node: Option<&str>) -> kube::Result<usize> {
    let nodes: Api<Node> = Api::all(client);
    let names = match node {
        Some(name) => vec![name.to_owned()],
        None => {
            let listed = nodes.list_metadata(&ListParams::default()).await?;
            let names = listed.items.into_iter();
            names.filter_map(|node| node.metadata.name).collect()
        }
    };
    let nothing: BTreeMap<String, Value> = keys
        .written()
        .into_iter()
        .map(|key| (key, Value::Null))
        .collect();
    let patch = json!({"metadata": {"annotations": nothing}});
    let condition = json!({"status": {"conditions": [{"type": CONDITION, "$patch": "delete"}]}});
    let parameters = PatchParams::default();
    for name in &names {
        patiently(nodes.patch_metadata(name, &parameters, &Patch::Merge(&patch))).await?;
        let removed = Patch::Strategic(&condition);
        match patiently(nodes.patch_status(name, &parameters, &removed)).await {
            // Without the right to it the agent has set none.
            Err(kube::Error::Api(error)) if error.code == 403 => {}
            other => other?,
        }
    }
    Ok(names.len())
}

async fn patiently<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<()> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(kube::Error::Service(
            "the API server does not answer".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use tower_test::mock;

    type Calls = Vec<(String, String, Value)>;

    /// Answers each call with an empty node, and returns the calls in their order.
    async fn calls<T>(run: impl AsyncFnOnce(Client) -> T) -> (T, Calls) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let server = tokio::spawn(async move {
            let mut calls = Calls::new();
            while let Some((request, respond)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let answer = match parts.method.as_str() {
                    "GET" => json!({
                        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
                        "items": [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}},
                                  {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"}}]}),
                    _ => json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}),
                };
                calls.push((parts.method.to_string(), parts.uri.to_string(), body));
                let answer = serde_json::to_vec(&answer).unwrap();
                respond.send_response(Response::builder().body(Body::from(answer)).unwrap());
            }
            calls
        });
        let result = run(Client::new(service, "default")).await;
        (result, server.await.unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn annotations_are_applied_by_our_manager_alone() {
        let wanted: Annotations = [("infera.io/agent-status".into(), "Ready".into())].into();
        let (result, calls) =
            calls(async |client| annotate(client, "n".into(), wanted).await).await;
        result.unwrap();
        let [(method, uri, body)] = &calls[..] else {
            panic!("{calls:?}")
        };
        assert_eq!(method, "PATCH");
        assert!(uri.starts_with("/api/v1/nodes/n?"), "{uri}");
        assert!(uri.contains("fieldManager=infera-agent") && uri.contains("force=true"));
        assert_eq!(
            body["metadata"]["annotations"]["infera.io/agent-status"],
            "Ready"
        );
        assert!(body.get("spec").is_none() && body.get("status").is_none());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_is_left_behind_on_any_node() {
        let keys = Keys::new("infera.io");
        let (result, calls) = calls(async |client| clean_up(client, &keys, None).await).await;
        assert_eq!(result.unwrap(), 2);
        let order: Vec<&str> = calls
            .iter()
            .map(|(_, uri, _)| uri.split('?').next().unwrap())
            .collect();
        assert_eq!(
            order,
            [
                "/api/v1/nodes",
                "/api/v1/nodes/a",
                "/api/v1/nodes/a/status",
                "/api/v1/nodes/b",
                "/api/v1/nodes/b/status"
            ]
        );
        let removed = calls[1].2["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(removed.len(), keys.written().len());
        assert!(removed.values().all(Value::is_null));
    }
}
