//! The ring of events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use hostward_abi::Event;
use libbpf_rs::MapHandle;
use libbpf_rs::RingBuffer;
use libbpf_rs::RingBufferBuilder;
use zerocopy::FromBytes as _;

use crate::error::Result;
use crate::error::libbpf;

/// Drains the kernel's ring into a queue of at most one ring's worth.
pub(crate) struct Events {
    ring: Mutex<RingBuffer<'static>>,
    queue: Arc<Mutex<VecDeque<Event>>>,
}

impl Events {
    pub fn open(map: &MapHandle) -> Result<Self> {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        let sink = Arc::clone(&queue);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(map, move |bytes| {
                // The kernel writes whole events only; anything else is another ABI's and was refused at opening.
                if let Ok((event, _)) = Event::read_from_prefix(bytes) {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
                }
                0
            })
            .map_err(libbpf("open", "hw_events"))?;
        let ring = builder.build().map_err(libbpf("map", "hw_events"))?;
        Ok(Self { ring: Mutex::new(ring), queue })
    }

    /// Takes at most `limit` events; never waits.
    pub fn drain(&self, limit: usize) -> Result<Vec<Event>> {
        if self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.ring.lock().unwrap_or_else(PoisonError::into_inner).consume().map_err(libbpf("drain", "hw_events"))?;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = limit.min(queue.len());
        Ok(queue.drain(..count).collect())
    }
}
