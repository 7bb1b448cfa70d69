//! /metrics, /observe, /healthz and /readyz.

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// The agent's loop has stopped when it has not completed a round for this long.
const STOPPED: Duration = Duration::from_secs(30);

/// How long the loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request for the page `/observe`: where the loop sends its answer.
pub type Question = oneshot::Sender<serde_json::Value>;

/// What the agent's loop publishes for the HTTP handlers.
pub struct Shown {
    /// The figures.
    pub metrics: Metrics,
    observe: mpsc::Sender<Question>,
    ready: AtomicBool,
    started: Instant,
    /// Milliseconds since `started`.
    last_round: AtomicU64,
}

impl Shown {
    /// Nothing seen yet; questions for the loop come out of the other end.
    #[must_use]
    pub fn new(metrics: Metrics) -> (Arc<Shown>, mpsc::Receiver<Question>) {
        let (observe, questions) = mpsc::channel(4);
        let shown = Shown {
            metrics,
            observe,
            ready: AtomicBool::new(false),
            started: Instant::now(),
            last_round: AtomicU64::new(0),
        };
        (Arc::new(shown), questions)
    }

    /// The loop has gone round.
    pub fn round(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.last_round.store(now, Ordering::Relaxed);
    }

    /// The pods are known, and their assignment is published.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn alive(&self) -> bool {
        let last = Duration::from_millis(self.last_round.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last) < STOPPED
    }
}

/// The pages.
pub fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/observe", get(observe))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(shown)
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.metrics.text()).into_response()
}

async fn observe(State(shown): State<Arc<Shown>>) -> Response {
    let (reply, replied) = oneshot::channel();
    let asked = shown.observe.try_send(reply).is_ok();
    match tokio::time::timeout(PATIENCE, replied).await {
        Ok(Ok(value)) if asked => axum::Json(value).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the loop is busy\n").into_response(),
    }
}

/// Never a matter of the API server: a restart would take the scheduler off a healthy node.
async fn healthz(State(shown): State<Arc<Shown>>) -> Response {
    match shown.alive() {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the loop has stopped\n").into_response(),
    }
}

async fn readyz(State(shown): State<Arc<Shown>>) -> Response {
    match shown.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "pods are not known yet\n").into_response(),
    }
}
