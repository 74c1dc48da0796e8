//! `kind: Container`: every default applied.

use super::Resolver;
use crate::desired::{Container, LogLimits, NetworkMode, Stop, UpdateOrder};
use crate::manifest::{self, Metadata, TextOrMap};
use crate::parse::Document;
use crate::value::{ByteSize, Mount, Name, RestartPolicy};
use std::time::Duration;

/// Docker's grace period.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Size at which a log file is rotated. Docker keeps everything for ever, which fills disks.
const LOG_BYTES: u64 = 10 << 20;
/// Log files kept.
const LOG_FILES: u32 = 3;
/// Least size of a log file: one long line and its JSON must fit.
const LOG_BYTES_MIN: u64 = 64 << 10;
/// Most log files: each rotation renames them all.
const LOG_FILES_MAX: u32 = 100;

impl<'a> Resolver<'a> {
    pub(super) fn container(&mut self, document: &'a Document, name: Name, metadata: &Metadata, written: &manifest::Container) {
        let image = self.image_key(document, &written.image);
        let mounts = self.mounts(document, &name, written);
        let network = self.network_mode(document, written);
        let update = self.update_order(document, written, &mounts, &network);
        let (env, env_from_files) = self.environment(document, written);
        let rest = |image| Container {
            image,
            entrypoint: self.entrypoint(document, written),
            command: self.command(document, written),
            env,
            env_from_files,
            working_dir: self.working_dir(document, written),
            user: written.user.clone(),
            hostname: self.hostname(document, &name, written),
            ports: self.ports(document, written),
            mounts,
            network,
            restart: self.restart(document, written),
            stop: Stop { signal: written.stop_signal, grace: written.stop_grace_period.map_or(STOP_GRACE, |grace| grace.0) },
            resources: self.resources(document, written),
            depends_on: self.depends_on(document, written),
            healthcheck: self.healthcheck(document, written.healthcheck.as_ref()),
            labels: self.labels(document, metadata, written.labels.as_ref()),
            security: self.security(document, written),
            update,
            logs: self.logs(document, written),
            tty: written.tty.unwrap_or_default(),
            stdin_open: written.stdin_open.unwrap_or_default(),
        };
        // Whatever stands for an image that is wrong: the other fields are checked all the same.
        let stand_in = || crate::desired::ImageKey::Named(name.clone());
        let container = rest(image.unwrap_or_else(stand_in));
        self.desired.containers.insert(name, container);
    }

    fn restart(&mut self, document: &Document, written: &manifest::Container) -> RestartPolicy {
        let long = match &written.restart {
            None => return RestartPolicy::default(),
            Some(TextOrMap::Short(policy)) => return *policy,
            Some(TextOrMap::Long(long)) => long,
        };
        match (long.policy, long.max_retries) {
            (policy, None) => policy,
            (RestartPolicy::OnFailure { max_retries: None }, max_retries) => RestartPolicy::OnFailure { max_retries },
            (policy, Some(_)) => {
                let problem = document.spec().key("restart").key("maxRetries").key_error(format!("policy {policy} takes no maxRetries"));
                self.report(problem.help("write policy: on-failure".to_owned()));
                policy
            }
        }
    }

    /// As written; else the old one goes first wherever the two could get in each other's way.
    fn update_order(&mut self, document: &Document, written: &manifest::Container, mounts: &[Mount], network: &NetworkMode) -> UpdateOrder {
        let order = match &written.update {
            None => None,
            Some(TextOrMap::Short(order)) => Some(order.0),
            Some(TextOrMap::Long(long)) => long.order.map(|order| order.0),
        };
        let shares_writable = mounts.iter().any(|mount| match mount {
            Mount::Volume { read_only, .. } | Mount::Bind { read_only, .. } => !read_only,
            Mount::Tmpfs { .. } => false,
        });
        let (fixed_address, host) = match network {
            NetworkMode::Networks(networks) => (networks.values().any(|attachment| attachment.address.is_some()), false),
            NetworkMode::Host => (false, true),
            NetworkMode::None => (false, false),
        };
        match order {
            Some(UpdateOrder::StartFirst) if fixed_address => {
                let problem = document.spec().key("update").error("old and new cannot run side by side with one fixed address");
                self.report(problem.help("write stop-first, or leave the address out".to_owned()));
                UpdateOrder::StopFirst
            }
            Some(order) => order,
            None if shares_writable || fixed_address || host => UpdateOrder::StopFirst,
            None => UpdateOrder::StartFirst,
        }
    }

    fn logs(&mut self, document: &Document, written: &manifest::Container) -> LogLimits {
        let written = written.logs.clone().unwrap_or_default();
        let spot = document.spec().key("logs");
        let max_size = written.max_size.unwrap_or(ByteSize::from_bytes(LOG_BYTES));
        if max_size.bytes() < LOG_BYTES_MIN {
            let problem = spot.key("maxSize").error(format!("{max_size} is too small for a log file"));
            self.report(problem.help(format!("write at least {}", ByteSize::from_bytes(LOG_BYTES_MIN))));
        }
        let max_files = written.max_files.unwrap_or(LOG_FILES);
        if !(1..=LOG_FILES_MAX).contains(&max_files) {
            let problem = spot.key("maxFiles").error(format!("{max_files} log files cannot be kept"));
            self.report(problem.help(format!("write 1 to {LOG_FILES_MAX}")));
        }
        LogLimits { max_size, max_files }
    }
}
