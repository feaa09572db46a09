//! Whatever containers write, every line has one of the few shapes that this plugin knows.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::random::{catalog, settings};
use super::{compose, instance, over_udp, service};
use crate::Settings;

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_upstream(word: &str) -> bool {
    let name = word.strip_suffix(".waypost").or_else(|| word.strip_suffix(".waypost-udp"));
    name.is_some_and(|name| is_name(name) && !name.bytes().any(|b| b.is_ascii_uppercase()))
}

fn is_server_name(word: &str) -> bool {
    match word.strip_prefix("~^").and_then(|rest| rest.strip_suffix('$')) {
        Some(pattern) => {
            let labels = pattern.strip_prefix("[^.]+\\.").unwrap_or(pattern);
            labels.split("\\.").all(|label| is_name(label) && !label.contains('.'))
        }
        None => is_name(word) && word.len() <= 46,
    }
}

fn is_path(word: &str) -> bool {
    word.starts_with('/') && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.~-".contains(&b))
}

fn is_endpoint(word: &str) -> bool {
    let Some((host, port)) = word.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    port.parse::<u16>().is_ok_and(|port| port > 0)
        && bare.map_or(is_name(host), |ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_comment(words: &[&str]) -> bool {
    match words {
        [] => true,
        ["#", id] => is_name(&id.replace(':', "_")),
        _ => false,
    }
}

fn is_server_tail(words: &[&str]) -> bool {
    let [fails, timeout, rest @ ..] = words else { return false };
    let (state, comment) = match (timeout.strip_suffix(';'), rest) {
        (Some(_), comment) => (true, comment),
        (None, [state, comment @ ..]) => {
            let weight = state.strip_prefix("weight=").and_then(|rest| rest.strip_suffix(';'));
            (*state == "down;" || weight.is_some_and(|weight| weight.parse::<u16>().is_ok_and(|w| w > 0)), comment)
        }
        (None, []) => (false, rest),
    };
    ["max_fails=1", "max_fails=0"].contains(fails)
        && timeout.starts_with("fail_timeout=2s")
        && state
        && is_comment(comment)
}

fn has_known_shape(line: &str) -> bool {
    let (indented, line) = line.strip_prefix("    ").map_or((false, line), |rest| (true, rest));
    let words: Vec<&str> = line.split(' ').collect();
    let ended = |word: &str, is: fn(&str) -> bool| word.strip_suffix(';').is_some_and(is);
    let is_action = |words: &[&str]| match words {
        ["{", "proxy_pass", url, "}"] => ended(url, |url| url.strip_prefix("http://").is_some_and(is_upstream)),
        ["{", "return", "503;", "}", "#", name] => is_upstream(name),
        _ => false,
    };
    match (indented, words.as_slice()) {
        (false, ["upstream", name, "{"]) => is_upstream(name),
        (false, ["#", "service", name]) => is_name(&name.replace(['/', ':'], "_")),
        (true, ["server", endpoint, tail @ ..]) => is_endpoint(endpoint) && is_server_tail(tail),
        (true, ["listen", bind]) => ended(bind, |bind| bind.starts_with("*:") || is_endpoint(bind)),
        (true, ["listen", bind, "udp", "reuseport;"]) => bind.starts_with("*:") || is_endpoint(bind),
        (true, ["server_name", name]) => ended(name, is_server_name),
        (true, ["return", "\"\";"]) => true,
        (true, ["proxy_pass", name]) => ended(name, is_upstream),
        (true, ["location", "=", path, rest @ ..] | ["location", path, rest @ ..]) => is_path(path) && is_action(rest),
        _ => false,
    }
}

/// Lines that do not depend on services: those of a catalog with one service of each kind, less its names.
fn fixed(settings: &Settings) -> BTreeSet<String> {
    let services = [
        service("one", &[instance("a", "10.0.0.1", 1, &[("protocol", "http")])]),
        service("two", &[instance("a", "10.0.0.1", 1, &[("listen-port", "1")])]),
        service("three", &[over_udp(instance("a", "10.0.0.1", 1, &[("listen-port", "1")]))]),
    ];
    let (files, _) = compose(settings, &services);
    files.values().flat_map(|text| text.lines()).filter(|line| !has_known_shape(line)).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_line_but_the_known_ones(settings in settings(), services in catalog()) {
        let fixed = fixed(&settings);
        let (files, _) = compose(&settings, &services);
        for (path, text) in files {
            prop_assert!(text.ends_with('\n'));
            for line in text.split_terminator('\n') {
                prop_assert!(has_known_shape(line) || fixed.contains(line), "{path}: {line:?}");
            }
            prop_assert_eq!(text.matches('{').count(), text.matches('}').count());
        }
    }
}
