//! Random requests, and what the rules say of each.

use std::collections::BTreeMap;

use harness::Network;

use super::front::{Front, HAPROXY, NGINX, Proxy};
use super::{NOBODY, services};

/// Requests for each proxy.
const REQUESTS: usize = 3000;

/// What hosts are made of.
const LABELS: &[&str] = &["shop", "Shop", "only", "deep", "DEEP", "leaving", "a", "b_c", "d-e", "1", "xn--f"];
const DOMAINS: &[&str] = &[".example", ".Example", ".deep.example", ".test", ".shop.example", ".a.example", ""];
const ENDS: &[&str] = &["", "", "", "", ".", ":80", ".:80", ",", "/x", "%2e", "@b", " b", "?", ":8080"];

/// What paths and queries are made of.
const PIECES: &[&str] = &[
    "/", "/", "/", "//", "%2F", "%2f", "api", "api", "app", "app", "%61pp", "%61pi", "a%70i", "API", "left", ".", "..",
    "%2e", "%2E", "...", "x", "%25", "2f", "%00", "%20", "%3F", "%23", "?", "&y=", "~", ":", ";", "@",
];

/// The same numbers in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll<'a>(&mut self, sides: &[&'a str]) -> &'a str {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        sides[usize::try_from(self.0 % sides.len() as u64).unwrap()]
    }

    fn host(&mut self) -> String {
        self.roll(LABELS).to_owned() + self.roll(DOMAINS) + self.roll(ENDS)
    }

    fn path(&mut self) -> String {
        let pieces: usize = self.roll(&["0", "1", "2", "3", "4", "6", "9"]).parse().unwrap();
        (0..pieces).fold("/".to_owned(), |path, _| path + self.roll(PIECES))
    }
}

/// A host as the rules compare it; none when it is bad.
fn domain(host: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let name = host.split(':').next().filter(|_| host.chars().all(good))?.to_ascii_lowercase();
    Some(name.strip_suffix('.').map_or(name.clone(), str::to_owned)).filter(|name| !name.is_empty())
}

/// The segments of a path as the rules compare them; none when it is bad.
fn segments(target: &str) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    let mut rest = target.split('?').next()?.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let decoded = if byte == b'%' { hex(rest.next()?)? * 16 + hex(rest.next()?)? } else { byte };
        bytes.push(decoded);
    }
    let path = String::from_utf8(bytes).ok()?;
    let segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    let bad = path.contains('\0') || segments.iter().any(|segment| segment == "." || segment == "..");
    (!bad).then_some(segments)
}

/// Who is to answer.
fn decide(host: &str, target: &str) -> &'static str {
    let (Some(domain), Some(segments)) = (domain(host), segments(target)) else { return "400" };
    let wild = domain.split_once('.').map(|(_, rest)| format!("*.{rest}")).unwrap_or_default();
    let known = services();
    let of =
        |name: &str| known.iter().filter(|service| service.1.split(',').any(|own| own == name)).collect::<Vec<_>>();
    let own = Some(of(&domain)).filter(|own| !own.is_empty()).unwrap_or_else(|| of(&wild));
    if own.is_empty() {
        return NOBODY;
    }
    let takes = |path: &str| {
        path.split('/')
            .skip(1)
            .filter(|fragment| !fragment.is_empty())
            .enumerate()
            .all(|(at, fragment)| segments.get(at).is_some_and(|segment| segment == fragment))
    };
    match own.iter().filter(|service| takes(service.2)).max_by_key(|service| service.2.len()) {
        Some((name, _, _, "ready")) => name,
        _ => "503",
    }
}

fn decides_by_the_rules(proxy: &Proxy) {
    let lab = Network::new();
    let host = lab.host("web");
    let front = Front::start(&lab, &host, proxy, true);
    let mut dice = Dice(88_172_645_463_325_252);
    let (mut wrong, mut decisions) = (Vec::new(), BTreeMap::new());
    for number in 0..REQUESTS {
        let host = match number % 4 {
            0 | 1 => "shop.example".to_owned(),
            2 => "only.example".to_owned(),
            _ => dice.host(),
        };
        let path = dice.path();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        let expected = decide(&host, &path);
        *decisions.entry(expected).or_insert(0) += 1;
        wrong.extend(front.wrong(&head, expected).map(|wrong| format!("{head:?}: {wrong}")));
    }
    for who in ["shop", "api", "wild", "deep", "only", NOBODY, "503", "400"] {
        assert!(decisions.get(who).is_some_and(|count| *count > 4), "hardly any for {who}: {decisions:?}");
    }
    let found = wrong.len();
    wrong.truncate(30);
    assert!(wrong.is_empty(), "{found} of {REQUESTS}: {wrong:#?}");
}

#[test]
fn nginx_decides_by_the_rules() {
    decides_by_the_rules(&NGINX);
}

#[test]
fn haproxy_decides_by_the_rules() {
    decides_by_the_rules(&HAPROXY);
}
