//! The exporter of flow records, as Python sees it: a thread of its own, which Python only tells names.

use std::collections::HashMap;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use hostward_datapath::EventLosses;
use hostward_datapath::EventReader;
use hostward_datapath::FlowWalk;
use hostward_datapath::monotonic_ns;
use hostward_datapath::real_ns;
use hostward_datapath::ticks_offset_ns;
use hostward_export::ipfix;
use hostward_export::ipfix::Counts;
use hostward_export::ipfix::DatapathLosses;
use hostward_export::ipfix::EndpointName;
use hostward_export::ipfix::Exporter;
use pyo3::prelude::*;

use crate::CoreError;
use crate::datapath::Datapath;
use crate::refused;

/// Between two looks into the ring, which at 200,000 events a second holds an eighth of a second's.
const IDLE: Duration = Duration::from_millis(10);
/// Between two steps of a walk: who shares the processor is to get its turn.
const STEP: Duration = Duration::from_micros(200);
/// So many events are a reason to look again at once.
const BUSY: usize = 1_024;
/// An agent that starts enforces what it enforced before within this time, or waits for its controller.
const NAMES_LIMIT_NS: u64 = 3_000_000_000;
const LOSSES_PERIOD_NS: u64 = 5_000_000_000;

/// Tenant, endpoint, groups, index and name of the device.
type NameTuple = (String, String, String, u32, String);

#[derive(Default)]
struct Told {
    endpoints: Option<HashMap<u32, NameTuple>>,
    rules: HashMap<u32, String>,
    rules_anew: bool,
    executables: Option<HashMap<(u32, u8), String>>,
    shares: Option<Vec<(u32, u32, u32)>>,
}

#[derive(Default)]
struct Shared {
    told: Mutex<Told>,
    counts: Mutex<(Counts, DatapathLosses, u64)>,
    problem: Mutex<String>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct FlowExport {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[pymethods]
impl FlowExport {
    #[new]
    #[pyo3(signature = (datapath, *, collector, standard, enterprise, domain, flows, active_s, inactive_s, waiting, lines, line_octets, line_files))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python constructor")]
    fn new(
        py: Python<'_>,
        datapath: &Datapath,
        collector: Option<(String, u16)>,
        standard: bool,
        enterprise: u32,
        domain: u32,
        flows: usize,
        active_s: f64,
        inactive_s: f64,
        waiting: usize,
        lines: Option<PathBuf>,
        line_octets: u64,
        line_files: u32,
    ) -> PyResult<Self> {
        let failed = |what: String| move |error: std::io::Error| CoreError::new_err(format!("{what}: {error}"));
        let sender = match collector {
            None => None,
            Some((host, port)) => {
                let told = format!("collector {host}:{port}");
                let found = py.detach(|| (host.as_str(), port).to_socket_addrs()).map_err(failed(told.clone()))?;
                let address = found.into_iter().next();
                let address = address.ok_or_else(|| CoreError::new_err(format!("{told}: it has no address")))?;
                Some(ipfix::Sender::connect(address, waiting).map_err(failed(told))?)
            }
        };
        let lines = match lines {
            None => None,
            Some(path) => {
                let told = path.display().to_string();
                Some(ipfix::Lines::open(&path, line_octets, line_files).map_err(failed(told))?)
            }
        };
        let form = if standard { ipfix::Form::Standard } else { ipfix::Form::Full };
        let nanoseconds = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 1e6)).as_nanos() as u64;
        let timeouts = ipfix::Timeouts { active_ns: nanoseconds(active_s), inactive_ns: nanoseconds(inactive_s) };
        let settings = ipfix::Settings { form, enterprise, domain, flows, timeouts, ..ipfix::Settings::default() };
        let mut exporter = Exporter::new(settings, sender, lines);
        exporter.set_ticks_offset(ticks_offset_ns());
        let worker = Worker {
            shared: Arc::default(),
            reader: datapath.inner.event_reader(),
            walk: datapath.inner.flow_walk().map_err(refused)?,
            losses: datapath.inner.event_losses().map_err(refused)?,
            exporter,
            events: Vec::new(),
            batch: Vec::new(),
            named: false,
            period_ns: (timeouts.active_ns.min(timeouts.inactive_ns) / 3).clamp(250_000_000, 5_000_000_000),
        };
        let shared = Arc::clone(&worker.shared);
        let thread = std::thread::Builder::new().name("flow-export".to_owned()).spawn(|| worker.run());
        let thread = Mutex::new(Some(thread.map_err(failed("thread".to_owned()))?));
        Ok(Self { shared, thread })
    }

    fn set_endpoints(&self, endpoints: HashMap<u32, NameTuple>, shares: Vec<(u32, u32, u32)>) {
        let mut told = lock(&self.shared.told);
        told.endpoints = Some(endpoints);
        told.shares = Some(shares);
    }

    fn add_rules(&self, rules: HashMap<u32, String>, anew: bool) {
        let mut told = lock(&self.shared.told);
        if anew {
            told.rules.clear();
            told.rules_anew = true;
        }
        told.rules.extend(rules);
    }

    fn set_executables(&self, executables: HashMap<(u32, u8), String>) {
        lock(&self.shared.told).executables = Some(executables);
    }

    /// Every count by its name.
    fn counts(&self) -> HashMap<&'static str, u64> {
        let (counts, losses, undrained) = *lock(&self.shared.counts);
        HashMap::from([
            ("events", counts.events),
            ("records", counts.records),
            ("packets", counts.packets),
            ("octets", counts.octets),
            ("sent_records", counts.sent_records),
            ("sent_messages", counts.sent_messages),
            ("sent_octets", counts.sent_octets),
            ("socket_lost_records", counts.socket_lost_records),
            ("socket_lost_packets", counts.socket_lost_packets),
            ("socket_lost_octets", counts.socket_lost_octets),
            ("socket_errors", counts.socket_errors),
            ("lines", counts.lines),
            ("lines_lost", counts.lines_lost),
            ("flows", counts.flows),
            ("untabled", counts.untabled),
            ("unseen_ends", counts.unseen_ends),
            ("resumed", counts.resumed),
            ("estimated", counts.estimated),
            ("bucket_lost_events", losses.bucket),
            ("ring_lost_events", losses.ring),
            ("undrained_events", undrained),
        ])
    }

    /// What the kernel refused last; empty: nothing.
    fn problem(&self) -> String {
        lock(&self.shared.problem).clone()
    }

    fn close(&self, py: Python<'_>) {
        self.shared.stop.store(true, Ordering::Release);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            py.detach(|| {
                if thread.join().is_err() {
                    "the thread of the flow export ended by a bug".clone_into(&mut lock(&self.shared.problem));
                }
            });
        }
    }
}

impl Drop for FlowExport {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

struct Worker {
    shared: Arc<Shared>,
    reader: EventReader,
    walk: FlowWalk,
    losses: EventLosses,
    exporter: Exporter,
    events: Vec<hostward_datapath::abi::Event>,
    batch: Vec<(hostward_datapath::abi::FlowKey, hostward_datapath::abi::Flow)>,
    period_ns: u64,
    /// Before anything is enforced an upgrade may still bring flows, which are no new ones: the first walk comes behind it.
    named: bool,
}

impl Worker {
    fn run(mut self) {
        self.wait_for_names();
        self.take_names();
        self.tick(); // templates before records
        let (mut walk_ns, mut losses_ns, mut began_ns) = (0, 0, None);
        while !self.shared.stop.load(Ordering::Acquire) {
            self.take_names();
            let busy = self.read() > BUSY;
            let now_ns = monotonic_ns();
            if began_ns.is_some() || (self.named && now_ns >= walk_ns) {
                let began = *began_ns.get_or_insert(now_ns);
                if self.step(began) {
                    began_ns = None;
                    walk_ns = monotonic_ns() + self.period_ns;
                }
            }
            if now_ns >= losses_ns {
                self.read_losses();
                losses_ns = now_ns + LOSSES_PERIOD_NS;
            }
            self.tick();
            if !busy {
                std::thread::sleep(if began_ns.is_some() { STEP } else { IDLE });
            }
        }
        self.take_names();
        while self.read() > 0 {}
        self.read_losses();
        // What was never walked since it was opened is told as far as a last walk knows it.
        self.exporter.begin_last_walk();
        let began = monotonic_ns();
        while !self.step(began) {}
        self.exporter.tick(monotonic_ns(), real_ns());
        self.exporter.close();
        self.publish();
    }

    /// What is in the ring, and in the table, is told of under its names if they come soon.
    fn wait_for_names(&self) {
        let began_ns = monotonic_ns();
        while lock(&self.shared.told).endpoints.is_none()
            && !self.shared.stop.load(Ordering::Acquire)
            && monotonic_ns() - began_ns < NAMES_LIMIT_NS
        {
            std::thread::sleep(IDLE);
        }
    }

    fn take_names(&mut self) {
        let told = std::mem::take(&mut *lock(&self.shared.told));
        self.exporter.add_rules(told.rules, told.rules_anew);
        if let Some(executables) = told.executables {
            self.exporter.set_executables(executables);
        }
        if let Some(shares) = told.shares {
            self.reader.share(&shares);
        }
        if let Some(endpoints) = told.endpoints {
            self.named = true;
            let named = |(tenant, endpoint, groups, interface, device)| EndpointName {
                tenant,
                endpoint,
                groups,
                interface,
                device,
            };
            self.exporter.set_endpoints(endpoints.into_iter().map(|(slot, name)| (slot, named(name))).collect());
        }
    }

    /// Gives what is in the ring to the exporter; how many events that were.
    fn read(&mut self) -> usize {
        if let Err(error) = self.reader.read(&mut self.events) {
            *lock(&self.shared.problem) = error.to_string();
            return 0;
        }
        for event in &self.events {
            self.exporter.event(event);
        }
        self.events.len()
    }

    /// One step of a walk; true: it was the last. Events that were there before the flows were read are given first.
    fn step(&mut self, began_ns: u64) -> bool {
        let now_ns = monotonic_ns();
        self.exporter.begin_batch(now_ns);
        let last = self.walk.step(&mut self.batch);
        while self.read() > BUSY {}
        match last {
            Ok(last) => {
                self.exporter.end_batch(&self.batch, now_ns);
                if last {
                    self.exporter.end_walk(began_ns);
                }
                last
            }
            Err(error) => {
                *lock(&self.shared.problem) = error.to_string();
                self.exporter.end_batch(&[], now_ns);
                true
            }
        }
    }

    fn read_losses(&mut self) {
        match self.losses.read() {
            Ok((bucket, ring)) => self.exporter.set_losses(DatapathLosses { bucket, ring }),
            Err(error) => *lock(&self.shared.problem) = error.to_string(),
        }
    }

    fn tick(&mut self) {
        self.exporter.tick(monotonic_ns(), real_ns());
        self.publish();
    }

    fn publish(&mut self) {
        *lock(&self.shared.counts) = (self.exporter.counts(), self.exporter.losses(), self.reader.dropped());
    }
}
