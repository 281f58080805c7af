//! Metrics of the process itself.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) fn register(registry: &mut Registry) {
    registry.register(
        "mox_build",
        "What is running",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    registry.register(
        "process_start_time_seconds",
        "When the process started, since 1970",
        ConstGauge::new(started),
    );
    registry.register_collector(Box::new(Process));
}

/// Read from the system at each scrape.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<i64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_resident_memory_bytes",
            "Memory in use",
            status_kilobytes("VmRSS:").map(|kb| kb * 1024),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Address space in use",
            status_kilobytes("VmSize:").map(|kb| kb * 1024),
        )?;
        gauge("process_open_fds", "Open files and sockets", open_files())?;
        gauge("process_threads", "Threads", status_kilobytes("Threads:"))
    }
}

/// A number from `/proc/self/status`; `None` where there is none.
fn status_kilobytes(key: &str) -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
