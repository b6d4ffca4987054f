//! Edges of a node: their keys, kept up to date with the file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use lb_tokio::edge::{EdgeKeyFile, EdgeListenerConfig};
use lb_tokio::identity::ClusterName;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::config::EdgeSettings;

/// How often the key file is looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// The key file of a running node.
pub(crate) struct Keys {
    file: Arc<EdgeKeyFile>,
    hangup: Signal,
    period: Interval,
    changed: Option<SystemTime>,
}

impl Keys {
    pub(crate) fn open(settings: &EdgeSettings, cluster: &ClusterName) -> Result<Self> {
        let changed = changed(&settings.keys);
        let file = Arc::new(EdgeKeyFile::open(&settings.keys, cluster)?);
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let listening: io::Result<Signal> = signal(SignalKind::hangup());
        Ok(Self {
            file,
            hangup: listening.context("cannot listen for signals")?,
            period,
            changed,
        })
    }

    pub(crate) fn config(&self, settings: &EdgeSettings) -> EdgeListenerConfig {
        let config = EdgeListenerConfig::new(settings.listen, self.file.clone());
        match settings.advertise {
            Some(addr) => config.advertise(addr),
            None => config,
        }
    }

    /// Reads the file again whenever it changed or SIGHUP came. Never ends; nothing is lost when it is dropped.
    pub(crate) async fn keep_up(&mut self) {
        loop {
            let asked = tokio::select! {
                _ = self.hangup.recv() => true,
                _ = self.period.tick() => false,
            };
            let changed = changed(self.file.path());
            if !asked && changed == self.changed {
                continue;
            }
            self.changed = changed;
            match self.file.reload() {
                Ok(devices) => tracing::info!(devices, "read the device keys again"),
                Err(error) => tracing::error!(%error, "the device keys stay as they were"),
            }
        }
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}
