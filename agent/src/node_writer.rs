//! What the agent writes about its node to the API server: annotations, a condition, events.
//!
//! Caller: the agent's loop, once a second. Writes run as tasks of their own, one of each kind at a time, because the loop must not wait
//! for an API server.

use crate::metrics::Metrics;
use crate::publish::{self, Annotations, Notice};
use crate::watches::with_causes;
use futures::FutureExt;
use kube::Client;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tracing::warn;

/// Annotations are written no more often.
const PUBLISH: Duration = Duration::from_secs(1);
/// The delay after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Annotations are written again after this time, in case another client changed them.
const REPUBLISH: Duration = Duration::from_secs(300);
/// Events that wait at most: old ones are of no use.
const NOTICES: usize = 16;

/// A write to the API server that is under way.
#[derive(Default)]
struct Writing {
    task: Option<JoinHandle<kube::Result<()>>>,
}

impl Writing {
    fn busy(&self) -> bool {
        self.task.is_some()
    }

    fn start(&mut self, request: impl Future<Output = kube::Result<()>> + Send + 'static) {
        self.task = Some(tokio::spawn(request));
    }

    /// How it ended, once it has.
    fn ended(&mut self) -> Option<Result<(), String>> {
        let result = self.task.as_mut()?.now_or_never()?;
        self.task = None;
        Some(match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(error) => Err(error.to_string()),
        })
    }
}

/// Writes to one node.
#[derive(Default)]
pub struct NodeWriter {
    /// None without an API server: then nothing is written.
    client: Option<Client>,
    node: String,
    sets_condition: bool,
    /// Our annotations as the node has them, once the node was received.
    seen: Option<Annotations>,
    written: Option<(Annotations, Instant)>,
    annotating: Writing,
    condition: Writing,
    notices: VecDeque<Notice>,
    notifying: Writing,
}

impl NodeWriter {
    /// Writes to `node` by `client`; the condition, too, if it `sets_condition`.
    #[must_use]
    pub fn new(client: Option<Client>, node: String, sets_condition: bool) -> NodeWriter {
        NodeWriter {
            client,
            node,
            sets_condition,
            ..NodeWriter::default()
        }
    }

    /// The node has these annotations of ours.
    pub fn see(&mut self, annotations: Annotations) {
        self.seen = Some(annotations);
    }

    /// Publishes an event soon, and logs it.
    pub fn warn(&mut self, notice: Notice) {
        warn!("{}", notice.note);
        self.notify(notice);
    }

    /// Publishes an event soon.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// Starts the writes that are due. `wanted`: the annotations, once they are known; `status`: the condition's text.
    pub fn write(&mut self, wanted: Option<Annotations>, status: &str, metrics: &Metrics) {
        self.finish(metrics);
        let Some(client) = self.client.clone() else {
            return;
        };
        if let Some(wanted) = wanted
            && self.is_due(&wanted)
        {
            self.annotate(client.clone(), wanted, status);
        }
        if !self.notifying.busy()
            && let Some(notice) = self.notices.pop_front()
        {
            let recorder = publish::recorder(client, &self.node);
            self.notifying
                .start(publish::notify(recorder, self.node.clone(), notice));
        }
        self.notices.truncate(NOTICES);
    }

    /// Logs what failed.
    fn finish(&mut self, metrics: &Metrics) {
        for (what, writing) in [
            ("annotations", &mut self.annotating),
            ("condition", &mut self.condition),
            ("events", &mut self.notifying),
        ] {
            if let Some(Err(error)) = writing.ended() {
                metrics.api_error();
                warn!("cannot write the node's {what}: {error}");
                if what == "annotations" {
                    // Not gone: to be written again, and not every second.
                    self.written = Some((Annotations::new(), Instant::now() + RETRY));
                }
            }
        }
    }

    fn is_due(&self, wanted: &Annotations) -> bool {
        let stale = self.written.as_ref().is_none_or(|(last, at)| {
            let changed = last != wanted || self.seen.as_ref().is_some_and(|seen| seen != wanted);
            let since = Instant::now().checked_duration_since(*at);
            since.is_some_and(|since| since >= REPUBLISH || (changed && since >= PUBLISH))
        });
        stale && !self.annotating.busy()
    }

    fn annotate(&mut self, client: Client, wanted: Annotations, status: &str) {
        self.written = Some((wanted.clone(), Instant::now()));
        let node = self.node.clone();
        self.annotating
            .start(publish::annotate(client.clone(), node.clone(), wanted));
        if self.sets_condition && !self.condition.busy() {
            let now = k8s_openapi::jiff::Timestamp::now().to_string();
            let status = status.to_owned();
            self.condition
                .start(publish::condition(client, node, status, now));
        }
    }

    /// The last write: waits for it, for two seconds at most.
    pub async fn finally(&mut self, annotations: Annotations) {
        if let Some(client) = self.client.take() {
            let write = publish::annotate(client, self.node.clone(), annotations);
            let _ = tokio::time::timeout(Duration::from_secs(2), write).await;
        }
    }
}
