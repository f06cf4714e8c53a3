//! Flow records from events to octets, read by a decoder of the tests' own.

mod decoder;
mod records;
mod sums;
mod world;
