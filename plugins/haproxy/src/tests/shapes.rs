//! Whatever containers write, every line has one of the few shapes that this plugin knows.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::random::{catalog, settings};
use super::{compose, instance, service};
use crate::Settings;

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-".contains(&b))
}

fn is_service(word: &str) -> bool {
    is_name(&word.replace('/', "_"))
}

fn is_domain(word: &str) -> bool {
    is_name(word.strip_prefix("*.").unwrap_or(word)) && !word.starts_with('-')
}

fn is_path(word: &str) -> bool {
    word.starts_with('/') && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.~-".contains(&b))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

fn is_endpoint(word: &str) -> bool {
    let Some((host, port)) = word.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    port.parse::<u16>().is_ok_and(|port| port > 0)
        && bare.map_or(is_name(host) && !host.contains(':'), |ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_condition(words: &[&str]) -> bool {
    match words {
        [acl] => is_name(acl),
        [acl, "{", "var(txn.path)", "-m", "beg", path, "}"] => is_name(acl) && is_path(path) && path.ends_with('/'),
        _ => false,
    }
}

fn is_server_tail(words: &[&str]) -> bool {
    match words {
        [] => true,
        ["check", "inter", "2s", "rise", "3", "fall", "2", rest @ ..]
        | ["resolvers", "default", rest @ ..]
        | ["init-addr", "last,libc,none" | "last,none", rest @ ..] => is_server_tail(rest),
        ["weight", weight, rest @ ..] => {
            weight.parse::<u16>().is_ok_and(|weight| weight <= 256) && is_server_tail(rest)
        }
        _ => false,
    }
}

fn has_known_shape(line: &str) -> bool {
    let (indented, line) = line.strip_prefix("    ").map_or((false, line), |rest| (true, rest));
    let words: Vec<&str> = line.split(' ').collect();
    match (indented, words.as_slice()) {
        (false, ["backend" | "listen", name]) | (true, ["use_backend", name]) => is_name(name),
        (false, ["#", "service", name]) => is_service(name) && name.contains('/'),
        (false, ["#", port, name]) => is_number(port) && is_name(name),
        (true, ["bind", binds]) => binds.split(',').all(|bind| bind.starts_with("*:") || is_endpoint(bind)),
        (true, ["server", name, endpoint, tail @ ..]) => is_name(name) && is_endpoint(endpoint) && is_server_tail(tail),
        (true, ["acl", name, "hdr_dom(host)", "-i", domain]) => is_name(name) && name == domain,
        (true, ["acl", name, "var(txn.wildcard)", "-m", "str", domain]) => {
            is_name(name) && is_domain(domain) && *domain == format!("*{name}")
        }
        (true, ["use_backend", "%[str(.)]", "if", acl]) => is_name(acl),
        (true, ["use_backend", name, "if", condition @ ..]) => is_name(name) && is_condition(condition),
        _ => false,
    }
}

fn is_map_line(line: &str) -> bool {
    let Some((key, name)) = line.split_once(' ') else { return false };
    let Some((domain, path)) = key.split_once('/') else { return false };
    if path == "/" {
        return is_domain(domain) && name == ".";
    }
    (is_domain(domain) || key == "*/") && name != "." && is_path(&format!("/{path}")) && is_name(name)
}

/// Lines that do not depend on services: those of a catalog with one service of each kind, less its names.
fn fixed(settings: &Settings) -> BTreeSet<String> {
    let services = [
        service("one", &[instance("a", "10.0.0.1", 1, &[("protocol", "http")])]),
        service("two", &[instance("a", "10.0.0.1", 1, &[("listen-port", "1")])]),
    ];
    let (files, _) = compose(settings, &services);
    files.values().flat_map(|text| text.lines()).filter(|line| !has_known_shape(line)).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_line_but_the_known_ones(settings in settings(), services in catalog()) {
        let fixed = fixed(&settings);
        let (files, _) = compose(&settings, &services);
        for (path, text) in files {
            prop_assert!(text.ends_with('\n'));
            for line in text.split_terminator('\n') {
                let known = if path == "routes.map" { is_map_line(line) } else { has_known_shape(line) };
                prop_assert!(known || fixed.contains(line), "{path}: {line:?}");
            }
        }
    }
}
