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

/// A socket and its queue.
pub struct Sender {
    socket: UdpSocket,
    collector: SocketAddr,
    /// Whether the socket is connected, by the route and the own address that held then.
    connected: bool,
    waiting: VecDeque<Message>,
    limit: usize,
}

enum Outcome {
    Sent,
    Full,
    Failed,
}

impl Sender {
    /// A sender to a collector, to which there may be no route yet; at most `limit` messages wait.
    ///
    /// # Errors
    /// There is no socket.
    pub fn connect(collector: SocketAddr, limit: usize) -> io::Result<Self> {
        let any: SocketAddr =
            if collector.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, collector, connected: false, waiting: VecDeque::new(), limit })
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
            match self.attempt(&message.octets, counts) {
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

    /// A refusal may be the answer to an earlier message, and is told once; or an address or a route went. The second
    /// attempt is this message's own, by what holds now.
    fn attempt(&mut self, octets: &[u8], counts: &mut Counts) -> Outcome {
        for _ in 0..2 {
            let connected = if self.connected { Ok(()) } else { self.socket.connect(self.collector) };
            match connected.and_then(|()| self.socket.send(octets)) {
                Ok(_) => {
                    self.connected = true;
                    return Outcome::Sent;
                }
                Err(error) if is_full(&error) => return Outcome::Full,
                Err(error) => {
                    counts.socket_errors += 1;
                    self.connected = error.kind() == io::ErrorKind::ConnectionRefused;
                }
            }
        }
        Outcome::Failed
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

fn is_full(error: &io::Error) -> bool {
    const ENOBUFS: i32 = 105;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(ENOBUFS)
}

fn lose(message: &Message, counts: &mut Counts) {
    counts.socket_lost_records += message.records;
    counts.socket_lost_packets += message.packets;
    counts.socket_lost_octets += message.flow_octets;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message { octets: vec![0; 20], records: 2, packets: 3, flow_octets: 300 }
    }

    #[test]
    fn what_the_kernel_does_not_send_is_counted_as_lost() {
        // A broadcast, for which the socket did not ask, is refused as is what has no route.
        let mut sender = Sender::connect("255.255.255.255:9".parse().unwrap(), 4).unwrap();
        let mut counts = Counts::default();
        sender.send(message(), &mut counts);
        assert_eq!((counts.socket_lost_records, counts.socket_lost_packets, counts.socket_lost_octets), (2, 3, 300));
        assert_eq!((counts.socket_errors, counts.sent_messages), (2, 0));
    }

    #[test]
    fn who_listens_gets_it() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sender = Sender::connect(collector.local_addr().unwrap(), 4).unwrap();
        let mut counts = Counts::default();
        sender.send(message(), &mut counts);
        assert_eq!((counts.sent_messages, counts.sent_records, sender.waiting()), (1, 2, 0));
        assert_eq!(collector.recv(&mut [0; 100]).unwrap(), 20);
    }
}
