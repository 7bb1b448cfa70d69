//! Safe mode, as the node's annotation requests it.
//!
//! Caller: the agent's loop, when the annotation changes and once a second until the guard has done it. Nothing here asks the API server:
//! the kill switch must work while that is away.

use crate::guard::{Paths, stand_down, take_over};
use std::time::Instant;
use tracing::{error, info};

/// What the annotation requests, and what of it is done.
#[derive(Debug, Default)]
pub struct SafeMode {
    requested: Option<bool>,
    done: Option<bool>,
}

impl SafeMode {
    /// The annotation `key` requests safe mode, or does not.
    pub async fn request(&mut self, on: bool, paths: &Paths, key: &str) {
        self.requested = Some(on);
        self.apply(paths, key).await;
    }

    /// Does what is requested and not done yet.
    pub async fn apply(&mut self, paths: &Paths, key: &str) {
        let Some(requested) = self.requested.filter(|_| self.requested != self.done) else {
            return;
        };
        let received = Instant::now();
        let done = match requested {
            true => {
                info!("{key}=true: standing down");
                stand_down(paths, &format!("{key}=true")).await
            }
            false => take_over(paths).await,
        };
        match done {
            Ok(()) => {
                info!(
                    "safe mode is {} as the node's annotation asks, {} ms after it was received",
                    if requested { "on" } else { "off" },
                    received.elapsed().as_millis()
                );
                self.done = self.requested;
            }
            // Again with the next tick.
            Err(error) if requested => error!("cannot stand down: {error}"),
            Err(_) => {}
        }
    }
}
