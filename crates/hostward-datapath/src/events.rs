//! The ring of events.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use hostward_abi as abi;
use hostward_abi::Event;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::RingBuffer;
use libbpf_rs::RingBufferBuilder;
use zerocopy::FromBytes as _;

use crate::clock::monotonic_ns;
use crate::error::Result;
use crate::error::libbpf;
use crate::share::Queue;
use crate::tables::Datapath;

/// Events of one reading: the ring's owner has other things to do as well.
const READ_LIMIT: usize = 16_384;

/// Drains the kernel's ring into a queue. Without a reader the queue has at most one ring's worth.
pub(crate) struct Events {
    ring: Mutex<RingBuffer<'static>>,
    fresh: Arc<Mutex<Vec<Event>>>,
    queue: Mutex<Queue>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    pub fn open(map: &MapHandle) -> Result<Self> {
        let fresh = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&fresh);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(map, move |bytes| {
                // The kernel writes whole events only; anything else is another ABI's and was refused at opening.
                if let Ok((event, _)) = Event::read_from_prefix(bytes) {
                    lock(&sink).push(event);
                }
                0
            })
            .map_err(libbpf("open", "hw_events"))?;
        let ring = builder.build().map_err(libbpf("map", "hw_events"))?;
        Ok(Self { ring: Mutex::new(ring), fresh, queue: Mutex::default() })
    }

    /// Takes at most `limit` events; never waits.
    pub fn drain(&self, limit: usize) -> Result<Vec<Event>> {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() && !queue.read {
            lock(&self.ring).consume().map_err(libbpf("drain", "hw_events"))?;
            queue.waiting.extend(lock(&self.fresh).drain(..));
        }
        let count = limit.min(queue.waiting.len());
        Ok(queue.waiting.drain(..count).collect())
    }

    fn read(&self, out: &mut Vec<Event>) -> Result<()> {
        let ring = lock(&self.ring);
        let found = ring.consume_raw_n(READ_LIMIT);
        if found < 0 {
            return Err(libbpf("drain", "hw_events")(libbpf_rs::Error::from_raw_os_error(-found)));
        }
        out.clear();
        std::mem::swap(&mut *lock(&self.fresh), out);
        drop(ring);
        let mut queue = lock(&self.queue);
        for event in &*out {
            queue.offer(event);
        }
        queue.tell_denials(monotonic_ns());
        Ok(())
    }
}

/// Reads the ring for as long as it lives: whoever drains events gets what it has read, too, within bounds of its own.
pub struct EventReader {
    events: Arc<Events>,
}

impl Datapath {
    /// The reader of the ring; there is one at a time.
    #[must_use]
    pub fn event_reader(&self) -> EventReader {
        lock(&self.events.queue).read = true;
        EventReader { events: Arc::clone(&self.events) }
    }
}

/// Reads what was lost before the ring; callable from any thread.
pub struct EventLosses {
    usage: MapHandle,
}

impl Datapath {
    /// A reader of what was lost, with a handle of its own.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn event_losses(&self) -> Result<EventLosses> {
        let usage = MapHandle::try_from(self.maps.get("hw_usage")).map_err(libbpf("open", "hw_usage"))?;
        Ok(EventLosses { usage })
    }
}

impl EventLosses {
    /// Events of all endpoints, those that are gone included, that a bucket refused, and for which the ring had no room.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&self) -> Result<(u64, u64)> {
        let (mut lost, mut unplaced) = (0, 0);
        for slot in 0..self.usage.max_entries() {
            let value = self.usage.lookup(&slot.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "hw_usage"))?;
            if let Some(usage) = value.and_then(|bytes| abi::Usage::read_from_bytes(&bytes).ok()) {
                lost += usage.events_lost;
                unplaced += usage.events_unplaced;
            }
        }
        Ok((lost.saturating_sub(unplaced), unplaced))
    }
}

impl EventReader {
    /// Takes what is in the ring, at most so much that it does not take long; `out` is emptied first.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn read(&self, out: &mut Vec<Event>) -> Result<()> {
        self.events.read(out)
    }

    /// Says how many events a second of a slot, and at once, [`Datapath::drain_events`] may get; slots that are not named
    /// have no such bound.
    pub fn share(&self, shares: &[(u32, u32, u32)]) {
        lock(&self.events.queue).share(shares);
    }

    /// Events that the ring gave, and that [`Datapath::drain_events`] did not get.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.events.queue).dropped
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        lock(&self.events.queue).read = false;
    }
}
