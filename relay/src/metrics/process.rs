//! What the process takes of its machine, under the names that Prometheus gives such figures in every
//! program. Only Linux tells.

use prometheus_client::registry::Registry;

/// Puts what the process has taken until now among the figures.
#[cfg(target_os = "linux")]
pub(super) fn register(all: &mut Registry) {
    match linux::Taken::now() {
        Ok(taken) => taken.register(all),
        Err(error) => tracing::debug!(%error, "cannot tell what the process takes"),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn register(_: &mut Registry) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::AtomicU64;

    use procfs::{ProcResult, WithCurrentSystemInfo, process::Process};
    use prometheus_client::{
        metrics::{counter::Counter, gauge::Gauge},
        registry::{Registry, Unit},
    };

    /// What a process has taken.
    pub(super) struct Taken {
        cpu_seconds: f64,
        resident_bytes: u64,
    }

    impl Taken {
        pub(super) fn now() -> ProcResult<Self> {
            let stat = Process::myself()?.stat()?;
            let ticks = (stat.utime + stat.stime) as f64;
            Ok(Self {
                cpu_seconds: ticks / procfs::ticks_per_second() as f64,
                resident_bytes: stat.rss_bytes().get(),
            })
        }

        pub(super) fn register(&self, all: &mut Registry) {
            let cpu = Counter::<f64, AtomicU64>::default();
            cpu.inc_by(self.cpu_seconds);
            let help = "Processor time of the process, of the user and of the system";
            all.register_with_unit("process_cpu", help, Unit::Seconds, cpu);
            let resident = Gauge::<i64>::default();
            resident.set(self.resident_bytes.cast_signed());
            let help = "Memory of the process";
            all.register_with_unit("process_resident_memory", help, Unit::Bytes, resident);
        }
    }
}
