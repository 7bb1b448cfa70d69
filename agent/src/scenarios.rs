//! The agent's loop against an API server and a guard in name only: what it asks whom, and in which
//! order.

use crate::agent::Agent;
use crate::cli::Args;
use crate::http::Shown;
use crate::metrics::{Metrics, Node as Shape};
use axum::body::Bytes;
use clap::Parser;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use infera_control::{Reply, State, Status};
use infera_plan::{Assignment, Config, Topology};
use infera_policy::Tier;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower_test::mock;

/// Longer takes nothing here.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is there, and what was asked.
#[derive(Default)]
struct World {
    pods: Vec<Value>,
    annotations: BTreeMap<String, Value>,
    /// Where the events of a watch go, by kind.
    watches: BTreeMap<String, UnboundedSender<Value>>,
    /// In order: LIST, WATCH, PATCH, POST of the API server, GUARD of the guard but for its status.
    log: Vec<String>,
    safe_mode: BTreeMap<String, String>,
    generation: u64,
    patches: Vec<Value>,
    /// PATCH is denied.
    denies: bool,
}

type Shared = Arc<Mutex<World>>;

/// A node, an agent on it, and who it talks to.
struct Scene {
    world: Shared,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(pods: Vec<Value>) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let world = Shared::default();
        world.lock().unwrap().pods = pods;
        std::fs::create_dir_all(dir.path().join("cgroup/kubepods.slice")).unwrap();
        guard(dir.path(), world.clone());
        Scene { world, dir }
    }

    /// Plays `act` beside the agent.
    async fn play(&self, act: impl AsyncFnOnce(&Scene)) {
        let args = [
            "infera-agent",
            "--node-name=n",
            "--pod-uid=infera-agent",
            "--no-scheduler",
            "--debounce-ms=50",
            "--config=/nowhere",
            "--stats-socket=/nowhere",
        ];
        let paths = [("--run-dir", ""), ("--cgroup-root", "cgroup")];
        let paths = paths
            .map(|(option, path)| format!("{option}={}", self.dir.path().join(path).display()));
        let args = args.into_iter().map(str::to_owned).chain(paths);
        let (shown, questions) = Shown::new(Metrics::new(&Shape::default()));
        let agent = Agent::new(
            Args::parse_from(args),
            Config::default(),
            Some(Topology::uniform(8, 2)),
            shown,
        );
        let client = api(self.world.clone());
        tokio::select! {
            ended = agent.run(Some(client), questions) => panic!("the agent ended: {ended:?}"),
            () = act(self) => {}
        }
    }

    fn assignment(&self) -> Assignment {
        Assignment::read(&self.dir.path().join("assignment.json")).unwrap()
    }

    /// Waits until it holds.
    async fn until(&self, what: &str, mut holds: impl FnMut(&World) -> bool) {
        let started = Instant::now();
        while !holds(&self.world.lock().unwrap()) {
            let log = &self.world.lock().unwrap().log.clone();
            assert!(started.elapsed() < PATIENCE, "{what}: not after {log:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the pods that are there are in force, and those to come are watched.
    async fn watched(&self) {
        self.until("a watch", |world| {
            world.generation == 1 && count(world, "WATCH pods") == 1
        })
        .await;
    }

    /// Sends an event to the watch of a kind.
    fn send(&self, kind: &str, event: Value) {
        let world = self.world.lock().unwrap();
        world.watches[kind].send(event).unwrap();
    }

    fn node_event(&self, requested: bool) -> Value {
        let mut world = self.world.lock().unwrap();
        let key = "infera.io/safe-mode-requested".to_owned();
        match requested {
            true => world.annotations.insert(key, json!("true")),
            false => world.annotations.remove(&key),
        };
        json!({"type": "MODIFIED", "object": node(&world)})
    }
}

fn node(world: &World) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {
        "name": "n", "uid": "n", "resourceVersion": "2", "annotations": world.annotations}})
}

fn pod(name: &str, priority: i32) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "2"},
        "spec": {"nodeName": "n", "priority": priority, "priorityClassName": "c", "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "500m"}}}]},
        "status": {"phase": "Running", "qosClass": "Burstable"}})
}

type Answer = UnsyncBoxBody<Bytes, Infallible>;

fn whole(answer: &Value) -> Answer {
    Full::from(serde_json::to_vec(answer).unwrap()).boxed_unsync()
}

/// An API server for one node.
fn api(world: Shared) -> Client {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Answer>>();
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let uri = parts.uri.to_string();
            let path = parts.uri.path();
            let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
            let mut world = world.lock().unwrap();
            let answer = match parts.method.as_str() {
                "GET" if uri.contains("watch=true") => {
                    world.log.push(format!("WATCH {kind}"));
                    let (send, receive) = unbounded_channel::<Value>();
                    world.watches.insert(kind, send);
                    let lines = futures::stream::unfold(receive, async |mut receive| {
                        let event = receive.recv().await?;
                        let line = format!("{event}\n").into_bytes();
                        Some((Ok::<_, Infallible>(Frame::data(line.into())), receive))
                    });
                    let body = StreamBody::new(lines.boxed()).boxed_unsync();
                    respond.send_response(Response::new(body));
                    continue;
                }
                "GET" => {
                    world.log.push(format!("LIST {kind}"));
                    let items = match kind.as_str() {
                        "pods" => world.pods.clone(),
                        _ => vec![node(&world)],
                    };
                    json!({"kind": "List", "apiVersion": "v1",
                        "metadata": {"resourceVersion": "1"}, "items": items})
                }
                "PATCH" if world.denies => {
                    world.log.push("PATCH denied".into());
                    let status = json!({"kind": "Status", "status": "Failure", "code": 403,
                        "reason": "Forbidden", "message": "not yours"});
                    let denial = Response::builder().status(403).body(whole(&status));
                    respond.send_response(denial.unwrap());
                    continue;
                }
                "PATCH" => {
                    world.log.push(format!("PATCH {path}"));
                    world.patches.push(body["metadata"]["annotations"].clone());
                    node(&world)
                }
                _ => {
                    world.log.push(format!("POST {}", body["reason"]));
                    body
                }
            };
            respond.send_response(Response::new(whole(&answer)));
        }
    });
    Client::new(service, "default")
}

/// A guard that is always attached, and lets anybody ask anything.
fn guard(dir: &Path, world: Shared) {
    let listener = UnixListener::bind(dir.join("control.sock")).unwrap();
    let assignment: PathBuf = dir.join("assignment.json");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut line = [0; 1024];
            let length = stream.read(&mut line).unwrap_or(0);
            let text = String::from_utf8_lossy(&line[..length]).into_owned();
            let request: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let mut world = world.lock().unwrap();
            let asked = request["do"].as_str().unwrap_or_default();
            let source = request["source"].as_str().unwrap_or_default().to_owned();
            if asked != "status" {
                world
                    .log
                    .push(format!("GUARD {asked} {source}").trim().into());
            }
            match asked {
                "safe-mode-on" => drop(world.safe_mode.insert(source, "asked".into())),
                "safe-mode-off" => drop(world.safe_mode.remove(&source)),
                "reload" => {
                    let read = Assignment::read(&assignment).unwrap_or_default();
                    world.generation = read.generation;
                }
                _ => {}
            }
            let status = Status {
                version: String::new(),
                state: match world.safe_mode.is_empty() {
                    true => State::Attached,
                    false => State::SafeMode,
                },
                since: 0,
                pid: None,
                safe_mode: world.safe_mode.clone(),
                generation: world.generation,
                policy_deposed: false,
                ejects: 0,
                eject_kinds: BTreeMap::new(),
                history: Vec::new(),
            };
            let reply = serde_json::to_string(&Reply::Done(Box::new(status))).unwrap();
            let _ = writeln!(stream, "{reply}");
        }
    });
}

fn count(world: &World, entry: &str) -> usize {
    world.log.iter().filter(|line| *line == entry).count()
}

#[tokio::test(flavor = "current_thread")]
async fn pods_come_first_and_words_about_them_later() {
    let scene = Scene::new(vec![pod("web", 1_000_000), pod("batch", -1000)]);
    scene
        .play(async |scene| {
            scene
                .until("words", |world| {
                    let last = world.patches.last();
                    last.is_some_and(|it| it["infera.io/agent-status"] == "Ready")
                })
                .await;
            let assignment = scene.assignment();
            assert_eq!(assignment.generation, 1);
            assert_eq!(assignment.critical_cores, Some(1));
            let tiers: Vec<Tier> = assignment.pods.iter().map(|pod| pod.tier).collect();
            assert_eq!(tiers, [Tier::Critical, Tier::Background]);
            let world = scene.world.lock().unwrap();
            let at = |entry: &str| world.log.iter().position(|line| line == entry).unwrap();
            assert!(at("LIST pods") < at("GUARD reload"), "{:?}", world.log);
            assert!(
                at("GUARD reload") < at("PATCH /api/v1/nodes/n"),
                "{:?}",
                world.log
            );
            assert_eq!(count(&world, "GUARD reload"), 1);
            let words = world.patches.last().unwrap();
            assert_eq!(words["infera.io/config-generation"], "1");
            let pods: Value =
                serde_json::from_str(words["infera.io/tier-pods"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&pods["critical"], &pods["background"]),
                (&json!(1), &json!(1))
            );
            let written = words.as_object().unwrap().keys();
            assert!(written.clone().all(|key| key.starts_with("infera.io/")));
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn the_agents_own_pod_is_system_and_others_of_its_class_are_high() {
    let node_critical = 2_000_001_000;
    let shipper = pod("log-shipper", node_critical);
    let scene = Scene::new(vec![pod("infera-agent", node_critical), shipper]);
    scene
        .play(async |scene| {
            scene.watched().await;
            let assignment = scene.assignment();
            assert_eq!(assignment.critical_cores, None);
            let tier = |name: &str| {
                let pods = assignment.pods.iter();
                let mut of = pods.filter(|pod| pod.cgroup.contains(name));
                of.next().map(|pod| pod.tier)
            };
            // A dash would be another level of systemd's names.
            assert_eq!(tier("infera_agent"), Some(Tier::System));
            assert_eq!(tier("log_shipper"), Some(Tier::High));
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_fence_beside_a_partition_is_an_event() {
    let scene = Scene::new(vec![pod("web", 1_000_000)]);
    let effective = scene.dir.path().join("cgroup/cpuset.cpus.effective");
    std::fs::write(&effective, "0-2,4-6\n").unwrap();
    scene
        .play(async |scene| {
            scene
                .until("an event", |world| {
                    count(world, "POST \"CpusetBesideFence\"") == 1
                })
                .await;
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn safe_mode_asks_the_guard_before_anybody_else() {
    let scene = Scene::new(vec![pod("web", 0)]);
    scene
        .play(async |scene| {
            scene
                .until("the first words", |world| !world.patches.is_empty())
                .await;
            for (requested, entry) in [
                (true, "GUARD safe-mode-on annotation"),
                (false, "GUARD safe-mode-off annotation"),
            ] {
                let event = scene.node_event(requested);
                // The annotation that is not there has been acted on at the start.
                let before = scene.world.lock().unwrap().log.len();
                scene.send("nodes", event);
                scene
                    .until(entry, |world| {
                        world.log[before..].iter().any(|line| line == entry)
                    })
                    .await;
                let log = scene.world.lock().unwrap().log[before..].to_vec();
                assert_eq!(log[0], entry, "the guard was not first: {log:?}");
            }
            scene
                .until("safe mode gone from the annotations", |world| {
                    let last = world.patches.last();
                    last.is_some_and(|it| it.get("infera.io/safe-mode").is_none())
                })
                .await;
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_expired_watch_lists_again_and_changes_nothing() {
    let scene = Scene::new(vec![pod("web", 100_000)]);
    scene
        .play(async |scene| {
            scene.watched().await;
            scene.send(
                "pods",
                json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1",
                    "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
                    "message": "too old resource version"}}),
            );
            scene
                .until("another watch", |world| count(world, "WATCH pods") >= 2)
                .await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(count(&scene.world.lock().unwrap(), "LIST pods") >= 2);
            assert_eq!(scene.assignment().generation, 1);
            // And the new watch receives events.
            scene.send(
                "pods",
                json!({"type": "ADDED", "object": pod("db", 100_000)}),
            );
            scene
                .until("a generation", |world| world.generation == 2)
                .await;
            assert_eq!(scene.assignment().pods.len(), 2);
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_crowd_of_hostile_pods_is_one_generation_and_no_harm() {
    let scene = Scene::new(Vec::new());
    scene
        .play(async |scene| {
            scene.watched().await;
            for n in 0..500 {
                let mut pod = pod(&format!("p{n}"), [i32::MIN, i32::MAX, -1, 0][n % 4]);
                let meta = &mut pod["metadata"];
                match n % 5 {
                    0 => meta["uid"] = json!("../../etc"),
                    1 => meta["name"] = json!("\u{0}\n".repeat(500)),
                    2 => meta["annotations"] = json!({"infera.io/tier": "system"}),
                    3 => {
                        meta["annotations"] = json!({"kubernetes.io/config.mirror": "x",
                        "kubernetes.io/config.hash": "/sys/fs"})
                    }
                    _ => {}
                }
                scene.send("pods", json!({"type": "ADDED", "object": pod}));
            }
            scene
                .until("a generation", |world| world.generation >= 2)
                .await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let assignment = scene.assignment();
            assert!(assignment.generation <= 3, "{}", assignment.generation);
            assert_eq!(assignment.pods.len(), 300);
            for pod in &assignment.pods {
                assert!(pod.cgroup.starts_with("/kubepods.slice/"), "{}", pod.cgroup);
                assert!(!pod.cgroup.contains(".."), "{}", pod.cgroup);
            }
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn who_may_not_write_keeps_scheduling_and_does_not_insist() {
    let scene = Scene::new(vec![pod("web", 0)]);
    scene.world.lock().unwrap().denies = true;
    scene
        .play(async |scene| {
            scene
                .until("a denial", |world| count(world, "PATCH denied") >= 1)
                .await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let denied = count(&scene.world.lock().unwrap(), "PATCH denied");
            assert!(denied <= 2, "asked {denied} times in three seconds");
            scene.send("pods", json!({"type": "ADDED", "object": pod("db", 0)}));
            scene
                .until("a generation", |world| world.generation == 2)
                .await;
        })
        .await;
}
