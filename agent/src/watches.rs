//! Watches of the API server: one object kind each, with retries.
//!
//! Caller: the agent's loop. An API server that is away is asked again after growing intervals. They are bounded, because the node may
//! carry the request for safe mode, and 5,000 agents must not all wait for the longest one.

use futures::Stream;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use std::pin::Pin;
use std::time::Duration;

/// The events of a watch.
pub type Watch<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// kube's intervals, but for their longest.
struct BoundedBackoff {
    growing: DefaultBackoff,
    longest: Duration,
}

impl Iterator for BoundedBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.growing.next()?.min(self.longest))
    }
}

impl Backoff for BoundedBackoff {
    fn reset(&mut self) {
        self.growing.reset();
    }
}

/// Watches the objects that `field` selects. Retries are at most `longest` apart. Without an API server the watch has no events.
pub fn watched<K>(client: Option<&Client>, field: String, longest: Duration) -> Watch<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let Some(client) = client else {
        return Box::pin(futures::stream::pending());
    };
    let config = watcher::Config::default().fields(&field);
    let backoff = BoundedBackoff {
        growing: DefaultBackoff::default(),
        longest,
    };
    Box::pin(watch(Api::all(client.clone()), config).backoff(backoff))
}

/// An error and what it came from: "client error" alone helps no operator. A cause that the text has already is not repeated.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !text.contains(&sentence) {
            text.push_str(": ");
            text.push_str(&sentence);
        }
        cause = error.source();
    }
    text
}
