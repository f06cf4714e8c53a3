//! The inspector at work: reads the datapath's ring until the agent closes the control socket.
//!
//! It is started with descriptors of the ring, of the array of what was read, of the control socket and of the log's pipe, and
//! gives up everything else before it reads a byte. A record is given back after the detector is done with it; should
//! it kill this process, the next one is told to skip it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use ahash::AHashMap;
use hostward_ids::decode::Nanos;
use hostward_ids::engine::Engine;
use hostward_ids::engine::Frame;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::net::SendFlags;
use rustix::net::send;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::Failure;
use crate::control::Order;
use crate::control::Report;
use crate::control::Rules;
use crate::log::Log;
use crate::owners::Owners;
use crate::ring::Ring;
use crate::ring::Step;
use crate::sandbox::Sandbox;
use crate::signatures::Loaded;
use crate::signatures::load;
use crate::sink::Outlet;
use crate::sink::fresh_budget;
use crate::sink::report;

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// Records between two looks at the control socket.
const BATCH: usize = 256;
/// How long a line of control may be: the signatures are in files.
const LINE_MAX: usize = 64 << 20;
/// Problems that are told one by one.
const PROBLEMS_TOLD: usize = 100;

struct Arguments {
    ring: OwnedFd,
    ring_len: usize,
    done: OwnedFd,
    slots: usize,
    control: UnixStream,
    log: File,
    mirror: Option<OwnedFd>,
    skip: bool,
    sandbox: Sandbox,
}

/// Runs until the agent hangs up.
///
/// # Errors
/// The command line is none, or the kernel refuses something that it cannot go on without.
pub fn run(words: &[String]) -> Result<(), Failure> {
    let arguments = parse(words)?;
    let mut ring = Ring::new(arguments.ring.as_fd(), arguments.ring_len, arguments.done, arguments.slots)
        .map_err(|error| Failure::Work(format!("cannot map the ring: {error}")))?;
    arguments.control.set_nonblocking(true).map_err(Failure::work)?;
    let confined =
        arguments.sandbox.enter().map_err(|error| Failure::Work(format!("cannot give up privileges: {error}")))?;
    let skipped = arguments.skip && ring.skip();
    let mut server = Server::new(ring, arguments.control, Log::new(arguments.log), arguments.mirror);
    server.skipped = skipped.into();
    server.tell(&Report::Confined { files: confined.files });
    server.run(&arguments.ring)
}

fn parse(words: &[String]) -> Result<Arguments, Failure> {
    let mut values: AHashMap<&str, Vec<&str>> = AHashMap::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        values.entry(name).or_default().push(value);
    }
    let usage = |name: &str| Failure::Usage(format!("serve: {name}=… is missing, or is no number"));
    let number = |name: &str| -> Result<u64, Failure> {
        values.get(name).and_then(|found| found.first()?.parse().ok()).ok_or_else(|| usage(name))
    };
    let small = |name: &str| -> Result<u32, Failure> { number(name)?.try_into().map_err(|_| usage(name)) };
    let folder = values.get("--folder").and_then(|found| found.first()).ok_or_else(|| usage("--folder"))?;
    let sandbox = Sandbox {
        uid: small("--uid")?,
        gid: small("--gid")?,
        folder: PathBuf::from(folder),
        memory_len: number("--memory")?,
    };
    let descriptor = |name: &str| -> Result<OwnedFd, Failure> { Ok(crate::shared::owned(small(name)?.cast_signed())) };
    Ok(Arguments {
        ring: descriptor("--ring")?,
        ring_len: number("--ring-len")? as usize,
        done: descriptor("--done")?,
        slots: number("--slots")? as usize,
        control: descriptor("--control")?.into(),
        log: descriptor("--log")?.into(),
        mirror: if values.contains_key("--mirror") { Some(descriptor("--mirror")?) } else { None },
        skip: values.contains_key("--skip"),
        sandbox,
    })
}

struct Server {
    ring: Ring,
    control: UnixStream,
    log: Log<File>,
    /// A packet socket of an interface that another detector listens on.
    mirror: Option<OwnedFd>,
    mirrored: u64,
    mirror_lost: u64,
    /// Records that were left out because one like them killed the process before this one.
    skipped: u64,
    owners: Owners,
    engine: Option<Engine>,
    incoming: Vec<u8>,
    reports: Vec<u8>,
    loading: Option<mpsc::Receiver<Result<Loaded, String>>>,
    next_rules: Option<Rules>,
    last_signature: AHashMap<u64, u32>,
    budget: u32,
    untold: u64,
    line: Vec<u8>,
    /// What to add to the datapath's clock to have the time of day.
    epoch_ns: Nanos,
    open: bool,
}

impl Server {
    fn new(ring: Ring, control: UnixStream, log: Log<File>, mirror: Option<OwnedFd>) -> Self {
        Self {
            ring,
            control,
            log,
            mirror,
            mirrored: 0,
            mirror_lost: 0,
            skipped: 0,
            owners: Owners::default(),
            engine: None,
            incoming: Vec::new(),
            reports: Vec::new(),
            loading: None,
            next_rules: None,
            last_signature: AHashMap::new(),
            budget: fresh_budget(),
            untold: 0,
            line: Vec::new(),
            epoch_ns: 0,
            open: true,
        }
    }

    fn tell(&mut self, what: &Report<'_>) {
        report(&mut self.reports, what);
    }

    fn run(&mut self, ring: &OwnedFd) -> Result<(), Failure> {
        let mut second = Instant::now();
        self.set_clock();
        while self.open {
            let busy = self.engine.is_some() && self.drain();
            self.send()?;
            self.open &= self.log.flush();
            let wait = Timespec { tv_sec: 0, tv_nsec: if busy { 0 } else { 100_000_000 } };
            let mut waited = vec![PollFd::new(&self.control, PollFlags::IN)];
            if self.engine.is_some() {
                waited.push(PollFd::new(ring, PollFlags::IN));
            }
            match poll(&mut waited, Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure::work(error)),
            }
            self.receive()?;
            self.take_loaded();
            if second.elapsed() >= Duration::from_secs(1) {
                second = Instant::now();
                self.each_second();
            }
        }
        Ok(())
    }

    /// Whether more may be there.
    fn drain(&mut self) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        for _ in 0..BATCH {
            let (owners, log, epoch_ns) = (&mut self.owners, &mut self.log, self.epoch_ns);
            let (reports, last_signature) = (&mut self.reports, &mut self.last_signature);
            let (budget, untold, line) = (&mut self.budget, &mut self.untold, &mut self.line);
            let (mirror, mirrored, mirror_lost) = (&self.mirror, &mut self.mirrored, &mut self.mirror_lost);
            let step = self.ring.step(|inspected, data| {
                if let Some(mirror) = mirror {
                    match send(mirror, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                        Ok(_) => *mirrored += 1,
                        Err(_) => *mirror_lost += 1,
                    }
                }
                let time = inspected.time_ns.wrapping_add(epoch_ns);
                let owner = owners.of(inspected, time);
                let frame = Frame { time, number: 0, link_type: ETHERNET, data, owner };
                let mut outlet = Outlet { log, owners, reports, last_signature, budget, untold, line };
                engine.frame(&frame, &mut outlet);
            });
            if matches!(step, Step::Empty) {
                return false;
            }
        }
        true
    }

    fn set_clock(&mut self) {
        let nanoseconds = |id| {
            let time = clock_gettime(id);
            time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
        };
        self.epoch_ns = nanoseconds(ClockId::Realtime).wrapping_sub(nanoseconds(ClockId::Monotonic));
    }

    fn each_second(&mut self) {
        self.set_clock();
        self.budget = fresh_budget();
        let now = clock_gettime(ClockId::Monotonic);
        let now_ns = (now.tv_sec.cast_unsigned() * 1_000_000_000).wrapping_add(self.epoch_ns);
        self.owners.tidy(now_ns);
        let owners = &self.owners;
        self.last_signature.retain(|reference, _| owners.origin(*reference).is_some());
        let Some(engine) = &mut self.engine else { return };
        let mut outlet = Outlet {
            log: &mut self.log,
            owners: &self.owners,
            reports: &mut self.reports,
            last_signature: &mut self.last_signature,
            budget: &mut self.budget,
            untold: &mut self.untold,
            line: &mut self.line,
        };
        engine.tick(now_ns, &mut outlet);
        let mut counters: BTreeMap<&'static str, u64> = engine.stats().by_name().into_iter().collect();
        counters.insert("events_written", self.log.written);
        counters.insert("events_lost", self.log.lost);
        counters.insert("alerts_untold", self.untold);
        counters.insert("records_skipped", self.skipped);
        counters.insert("mirrored", self.mirrored);
        counters.insert("mirror_lost", self.mirror_lost);
        counters.insert("owners_forgotten", self.owners.forgotten);
        report(&mut self.reports, &Report::Counted { counters: &counters });
    }

    fn send(&mut self) -> Result<(), Failure> {
        let mut sent = 0;
        while sent < self.reports.len() {
            match self.control.write(&self.reports[sent..]) {
                Ok(0) => self.open = false,
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.open = false,
                Err(error) => return Err(Failure::work(error)),
            }
            if !self.open {
                break;
            }
        }
        self.reports.drain(..sent);
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; 1 << 14];
        loop {
            match self.control.read(&mut chunk) {
                Ok(0) => {
                    self.open = false;
                    break;
                }
                Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::work(error)),
            }
            if self.incoming.len() > LINE_MAX {
                return Err(Failure::Work("an order of the agent's has no end".into()));
            }
        }
        while let Some(end) = self.incoming.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.incoming.drain(..=end).collect();
            match serde_json::from_slice(&line).map_err(|error| Failure::Work(format!("no order: {error}")))? {
                Order::Rules(rules) => self.next_rules = Some(rules),
                Order::Names(names) => self.owners.rename(names),
            }
        }
        Ok(())
    }

    /// Compiles new signatures beside the work, one set at a time; packets go on meeting those in force.
    fn take_loaded(&mut self) {
        if self.loading.is_none()
            && let Some(rules) = self.next_rules.take()
        {
            let (tell, told) = mpsc::channel();
            self.loading = Some(told);
            thread::spawn(move || {
                let _ = tell.send(load(&rules));
            });
        }
        let Some(told) = &self.loading else { return };
        let loaded = match told.try_recv() {
            Ok(loaded) => loaded,
            Err(mpsc::TryRecvError::Empty) => return,
            Err(mpsc::TryRecvError::Disconnected) => Err("the signatures could not be compiled".into()),
        };
        self.loading = None;
        match loaded {
            Ok(loaded) => {
                let (signatures, milliseconds) = (loaded.detector.len(), loaded.milliseconds);
                let told = &loaded.problems[..loaded.problems.len().min(PROBLEMS_TOLD)];
                let refused = loaded.problems.len();
                report(&mut self.reports, &Report::Loaded { signatures, milliseconds, problems: told, refused });
                match &mut self.engine {
                    Some(engine) => engine.set_detector(loaded.detector),
                    None => self.engine = Some(Engine::new(loaded.detector, loaded.settings)),
                }
            }
            Err(why) => self.tell(&Report::NotLoaded { why }),
        }
    }
}
