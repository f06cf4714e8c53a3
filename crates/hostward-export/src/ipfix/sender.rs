//! Messages to a collector by UDP, without waiting: what the socket does not take waits in a bounded queue.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;

use crate::ipfix::counts::Counts;
use crate::ipfix::message::Message;

/// Messages that wait, unless told otherwise: some 700 kB.
/// See [`Sender::connect`].
pub const WAITING_LIMIT: usize = 512;

/// A connected socket and its queue.
pub struct Sender {
    socket: UdpSocket,
    waiting: VecDeque<Message>,
    limit: usize,
}

enum Outcome {
    Sent,
    Full,
    Failed,
}

impl Sender {
    /// A sender to a collector; at most `limit` messages wait.
    ///
    /// # Errors
    /// There is no socket, or no route to the collector.
    pub fn connect(collector: SocketAddr, limit: usize) -> io::Result<Self> {
        let any: SocketAddr =
            if collector.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(collector)?;
        Self::over(socket, limit)
    }

    /// The same over a socket that is connected.
    ///
    /// # Errors
    /// The socket refuses to be non-blocking.
    pub fn over(socket: UdpSocket, limit: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, waiting: VecDeque::new(), limit })
    }

    /// Sends a message, or has it wait behind the others. The newest is given up where there is no room.
    pub fn send(&mut self, message: Message, counts: &mut Counts) {
        self.pump(counts);
        if self.waiting.len() >= self.limit {
            lose(&message, counts);
            return;
        }
        self.waiting.push_back(message);
        self.pump(counts);
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn pump(&mut self, counts: &mut Counts) {
        while let Some(message) = self.waiting.pop_front() {
            match attempt(&self.socket, &message.octets, counts) {
                Outcome::Sent => {
                    counts.sent_messages += 1;
                    counts.sent_octets += message.octets.len() as u64;
                    counts.sent_records += message.records;
                }
                Outcome::Full => {
                    self.waiting.push_front(message);
                    return;
                }
                Outcome::Failed => lose(&message, counts),
            }
        }
    }

    /// Messages that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives up what waits.
    pub fn abandon(&mut self, counts: &mut Counts) {
        for message in self.waiting.drain(..) {
            lose(&message, counts);
        }
    }
}

/// A refusal may be the answer to an earlier message, and is told once: the second attempt is this one's own.
fn attempt(socket: &UdpSocket, octets: &[u8], counts: &mut Counts) -> Outcome {
    for _ in 0..2 {
        match socket.send(octets) {
            Ok(_) => return Outcome::Sent,
            Err(error) if is_full(&error) => return Outcome::Full,
            Err(_) => counts.socket_errors += 1,
        }
    }
    Outcome::Failed
}

fn is_full(error: &io::Error) -> bool {
    const ENOBUFS: i32 = 105;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(ENOBUFS)
}

fn lose(message: &Message, counts: &mut Counts) {
    counts.socket_lost_records += message.records;
    counts.socket_lost_packets += message.packets;
    counts.socket_lost_octets += message.flow_octets;
}
