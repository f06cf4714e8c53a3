//! How fast the HTTP/1 parser alone is: plaintext responses of 10 to 100 KB in segments of 1448 bytes, every
//! transaction taken out as the engine does. Prints Gbit/s: `http_speed [SECONDS]`.

use std::time::{Duration, Instant};

use hostward_ids::Direction::{ToClient, ToServer};
use hostward_ids::app::{Limits, Parser, http};

const SEGMENT_LEN: usize = 1448;

fn exchanges() -> Vec<(Vec<u8>, Vec<u8>)> {
    let line = b"<p class=\"text\">The quick brown fox jumps over the lazy dog.</p>\r\n";
    (1..=10)
        .map(|tens| {
            let request = format!(
                "GET /some/path/page{tens}.html?q={tens} HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: Mozilla/5.0 \
                 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: en\r\nAccept-Encoding: \
                 identity\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n\r\n"
            );
            let body: Vec<u8> = line.iter().copied().cycle().take(tens * 10_000).collect();
            let mut response = format!(
                "HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 12:00:00 GMT\r\nServer: nginx\r\nContent-Type: text/html; \
                 charset=utf-8\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n",
                body.len()
            )
            .into_bytes();
            response.extend(body);
            (request.into_bytes(), response)
        })
        .collect()
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(3);
    let exchanges = exchanges();
    let limits = Limits::default();
    let (start, mut bytes, mut transactions, mut logged) = (Instant::now(), 0_u64, 0_u64, 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut parser = http::new(&limits);
        for (request, response) in &exchanges {
            parser.parse(ToServer, request).expect("a request");
            for segment in response.chunks(SEGMENT_LEN) {
                parser.parse(ToClient, segment).expect("a response");
            }
            bytes += (request.len() + response.len()) as u64;
            while parser.transactions().front().is_some_and(|transaction| transaction.complete()) {
                let transaction = parser.transactions().pop_front().expect("it is there");
                logged += serde_json::to_string(&transaction.log).expect("it is JSON").len();
                transactions += 1;
            }
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "{:.2} Gbit/s, {transactions} transactions in {elapsed:.2} s, {logged} bytes of log",
        bytes as f64 * 8.0 / elapsed / 1e9
    );
}
