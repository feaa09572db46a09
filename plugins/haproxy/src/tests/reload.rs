//! What a process still does that was told to end by a reload.

use std::io::{Read, Write};
use std::net::TcpStream;

use waypost_test_support::{DEADLINE, Signal, eventually, holds};

use super::running::{Running, http};

/// A client's connection that stays open.
struct Client(TcpStream);

impl Client {
    fn ask(&mut self) -> String {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").unwrap();
        let mut head = String::new();
        let mut byte = [0];
        while !head.ends_with("\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            head.push(char::from(byte[0]));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        self.0.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
        head
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

#[test]
fn one_more_answer_on_a_connection_that_was_open() {
    let shop = [http("shop", &[("domain", "shop.example")])];
    let mut haproxy = Running::start(r#", "defaults-lines": ["timeout http-keep-alive 2s"]"#, &shop);
    let client = || Client(haproxy.connect());
    let (mut asks, mut rests) = (client(), client());
    for client in [&mut asks, &mut rests] {
        assert!(!client.ask().contains("connection: close"));
    }
    haproxy.program.signal(Signal::USR1);
    eventually(DEADLINE, "it listens no more", || holds(!haproxy.is_listening(), "it takes a connection"));
    assert!(asks.ask().contains("connection: close"), "one more answer, and the word that it is the last");
    assert!(asks.is_closed());
    assert!(rests.is_closed(), "when `timeout http-keep-alive` is over");
    assert!(haproxy.program.wait().success(), "nothing is left to wait for");
}
