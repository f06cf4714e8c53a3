//! JSON, written straight into bytes: an event is written millions of times and read once.

use std::net::IpAddr;

/// An object that is being written.
#[derive(Debug, Default)]
pub struct Json {
    out: Vec<u8>,
    /// Whether a comma is due before the next member.
    comma: bool,
}

impl Json {
    /// Begins a new object, and forgets the last.
    pub fn begin(&mut self) {
        self.out.clear();
        self.out.push(b'{');
        self.comma = false;
    }

    /// Ends the object.
    pub fn finish(&mut self) -> &[u8] {
        self.out.push(b'}');
        &self.out
    }

    /// Begins an object as a member.
    pub fn open(&mut self, key: &str) {
        self.key(key);
        self.out.push(b'{');
        self.comma = false;
    }

    /// Begins an array as a member.
    pub fn open_array(&mut self, key: &str) {
        self.key(key);
        self.out.push(b'[');
        self.comma = false;
    }

    /// Begins an object within an array.
    pub fn open_element(&mut self) {
        self.separate();
        self.out.push(b'{');
        self.comma = false;
    }

    /// Ends an inner object.
    pub fn close(&mut self) {
        self.out.push(b'}');
        self.comma = true;
    }

    /// Ends an array.
    pub fn close_array(&mut self) {
        self.out.push(b']');
        self.comma = true;
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string member.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value.as_bytes());
    }

    /// A string within an array.
    pub fn text_element(&mut self, value: &str) {
        self.separate();
        self.string(value.as_bytes());
    }

    /// A number within an array.
    pub fn number_element(&mut self, value: u64) {
        self.separate();
        self.digits(value);
    }

    /// A string member of bytes that may be no UTF-8: those are shown as the replacement character.
    pub fn lossy(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        match std::str::from_utf8(value) {
            Ok(_) => self.string(value),
            Err(_) => self.string(String::from_utf8_lossy(value).as_bytes()),
        }
    }

    /// A number.
    pub fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value);
    }

    /// A truth value.
    pub fn truth(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Any value.
    pub fn value(&mut self, key: &str, value: &serde_json::Value) {
        self.key(key);
        // Writing into memory fails for no value that was read or made here.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// An object.
    pub fn map(&mut self, key: &str, value: &serde_json::Map<String, serde_json::Value>) {
        self.key(key);
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// An address, IPv6 in full as Suricata writes it.
    pub fn address(&mut self, key: &str, value: IpAddr) {
        self.key(key);
        self.out.push(b'"');
        match value {
            IpAddr::V4(address) => {
                for (place, part) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        self.out.push(b'.');
                    }
                    self.digits(u64::from(part));
                }
            }
            IpAddr::V6(address) => {
                for (place, part) in address.segments().into_iter().enumerate() {
                    if place > 0 {
                        self.out.push(b':');
                    }
                    for shift in [12, 8, 4, 0] {
                        self.out.push(hex_digit((part >> shift) as u8));
                    }
                }
            }
        }
        self.out.push(b'"');
    }

    /// Bytes in base64 (RFC 4648, section 4).
    pub fn base64(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        base64(value, &mut |byte| self.out.push(byte));
        self.out.push(b'"');
    }

    /// Microseconds as `2026-01-31T23:59:59.123456+0000`.
    pub fn time(&mut self, key: &str, nanos: u64) {
        self.key(key);
        self.out.push(b'"');
        let seconds = nanos / 1_000_000_000;
        let (year, month, day) = civil(seconds / 86_400);
        let of_day = seconds % 86_400;
        self.padded(year, 4);
        for (mark, value) in
            [(b'-', month), (b'-', day), (b'T', of_day / 3600), (b':', of_day / 60 % 60), (b':', of_day % 60)]
        {
            self.out.push(mark);
            self.padded(value, 2);
        }
        self.out.push(b'.');
        self.padded(nanos / 1000 % 1_000_000, 6);
        self.out.extend_from_slice(b"+0000\"");
    }

    fn padded(&mut self, value: u64, width: u32) {
        for place in (0..width).rev() {
            self.out.push(b'0' + (value / 10_u64.pow(place) % 10) as u8);
        }
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0' + (value % 10) as u8;
            }
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(digits.get(at..).unwrap_or_default());
    }

    fn string(&mut self, value: &[u8]) {
        self.out.push(b'"');
        let mut plain_from = 0;
        for (at, byte) in value.iter().enumerate() {
            if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(value.get(plain_from..at).unwrap_or_default());
            plain_from = at + 1;
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', *byte]),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                _ => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend_from_slice(&[hex_digit(byte >> 4), hex_digit(*byte)]);
                }
            }
        }
        self.out.extend_from_slice(value.get(plain_from..).unwrap_or_default());
        self.out.push(b'"');
    }
}

/// Bytes in base64, byte by byte.
pub(crate) fn base64(value: &[u8], out: &mut dyn FnMut(u8)) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in value.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) as usize & 0x3f;
            let shown = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            out(if place <= chunk.len() { shown } else { b'=' });
        }
    }
}

fn hex_digit(value: u8) -> u8 {
    match value & 0x0f {
        digit @ 0..=9 => b'0' + digit,
        letter => b'a' + letter - 10,
    }
}

/// Year, month and day of a number of days since 1970-01-01 (proleptic Gregorian; eras of 400 years have 146,097 days).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_back() {
        let mut json = Json::default();
        json.begin();
        json.time("timestamp", 1_709_209_543_123_456_789);
        json.text("odd", "a\"b\\c\n\u{1}é");
        json.address("six", "fe80::1".parse().unwrap());
        json.address("four", "192.0.2.10".parse().unwrap());
        for (key, data) in [("b0", ""), ("b1", "f"), ("b2", "fo"), ("b3", "foo")] {
            json.base64(key, data.as_bytes());
        }
        json.open("in");
        json.number("n", u64::MAX);
        json.close();
        let read: serde_json::Value = serde_json::from_slice(json.finish()).unwrap();
        assert_eq!(read["timestamp"], "2024-02-29T12:25:43.123456+0000");
        assert_eq!(read["odd"], "a\"b\\c\n\u{1}é");
        assert_eq!(read["six"], "fe80:0000:0000:0000:0000:0000:0000:0001");
        assert_eq!(read["four"], "192.0.2.10");
        assert_eq!((&read["b0"], &read["b1"]), (&"".into(), &"Zg==".into()));
        assert_eq!((&read["b2"], &read["b3"]), (&"Zm8=".into(), &"Zm9v".into()));
        assert_eq!(read["in"]["n"], u64::MAX);
    }
}
