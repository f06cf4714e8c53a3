//! A ring of what the datapath tells, without a reader of its own: samples.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use libbpf_rs::MapHandle;
use libbpf_rs::RingBuffer;
use libbpf_rs::RingBufferBuilder;
use zerocopy::FromBytes;

use crate::error::Result;
use crate::error::libbpf;

/// Drains one ring of the kernel's into a queue of at most one ring's worth.
pub(crate) struct Ring<T> {
    name: &'static str,
    reader: Mutex<RingBuffer<'static>>,
    queue: Arc<Mutex<VecDeque<T>>>,
}

impl<T: FromBytes + Send + 'static> Ring<T> {
    pub fn open(map: &MapHandle, name: &'static str) -> Result<Self> {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        let sink = Arc::clone(&queue);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(map, move |bytes| {
                // The kernel writes whole ones only; anything else is another ABI's and was refused at opening.
                if let Ok((event, _)) = T::read_from_prefix(bytes) {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
                }
                0
            })
            .map_err(libbpf("open", name))?;
        let ring = builder.build().map_err(libbpf("map", name))?;
        Ok(Self { name, reader: Mutex::new(ring), queue })
    }

    /// Takes at most `limit`; never waits.
    pub fn drain(&self, limit: usize) -> Result<Vec<T>> {
        if self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.reader.lock().unwrap_or_else(PoisonError::into_inner).consume().map_err(libbpf("drain", self.name))?;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = limit.min(queue.len());
        Ok(queue.drain(..count).collect())
    }
}
