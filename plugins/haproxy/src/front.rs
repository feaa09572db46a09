//! Renders the frontend that all http services share. It is in the first file already, so that neither the first http
//! service nor the last one costs a reload.
//!
//! HAProxy routes a request by a normal form of its host and path: `txn.host` is in lower case, without port and final
//! dot; `txn.path` is decoded once, without `//`, and ends in `/`. The request itself passes unchanged.

use waypost_plugin_sdk::Fragment;

use crate::files::{ROUTES, STANDBYS, configuration, lines};
use crate::names::{HTTP_FRONTEND, NOBODY, STANDBY};
use crate::route::ANY_DOMAIN;
use crate::settings::{Routing, Settings};

/// Renders the frontend, and backends for services that come before the next reload; nothing where `http-bind` is off.
pub(crate) fn fragments(settings: &Settings) -> Vec<Fragment> {
    let Some(bind) = settings.http_bind.get() else { return Vec::new() };
    let head = format!("\nfrontend {HTTP_FRONTEND}\n");
    let bind = format!("    bind {bind}\n");
    let options = format!("{OPTIONS}{HEADERS}{}{NORMALISE}", lines(&settings.http_lines));
    let mut fragments = match settings.routing {
        Routing::Map => {
            let standbys = if settings.standbys() > 0 { standbys_lookup() } else { String::new() };
            vec![configuration("40 http", format!("{head}{bind}{options}{}{standbys}{USE}", lookup()))]
        }
        // The rules of services follow, so the frontend has to exist without its port too.
        Routing::Acl => vec![
            configuration("40 http", head),
            configuration("40 http bind", bind),
            configuration("40 http rules", format!("{options}    {}\n", wildcard())),
        ],
    };
    if settings.standbys() > 0 {
        fragments.push(configuration("45 standbys", standbys(settings)));
    }
    fragments
}

/// Without the first line, every reload resets the idle connections of clients. With the last line, HAProxy sends only
/// requests that change nothing (RFC 9110, 9.2.1) to a second server.
const OPTIONS: &str = "    option idle-close-on-response
    option forwardfor
    http-request disable-l7-retry unless METH_GET
";

/// HAProxy replaces what a client sent in these headers; only `X-Forwarded-For` keeps it.
const HEADERS: &str = "    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request del-header X-Forwarded-Host
    http-request set-header X-Forwarded-Host %[req.fhdr(host)] if { req.fhdr(host) -m found }
    http-request set-header X-Real-IP %[src]
";

/// `OPTIONS *` has no path and counts as `/`; `url_dec` gives nothing for what is not percent-encoded as it should be.
const NORMALISE: &str = "    http-request deny deny_status 400 unless { req.fhdr(host) -m reg ^[]A-Za-z0-9._:[-]+$ } || HTTP_1.0 !{ req.fhdr(host) -m found }
    http-request set-var(txn.host) req.fhdr(host),regsub(:[0-9]*$,),regsub([.]$,),lower
    http-request set-var(txn.path) path,url_dec,concat(/),regsub(/+,/,g)
    http-request set-var(txn.path) str(/) unless { path -m found }
    http-request deny deny_status 400 if { path -m sub %00 } || !{ var(txn.path) -m found } || { var(txn.path) -m sub /./ /../ } || { var(txn.host) -m len 0 } { req.fhdr(host) -m found }
";

/// Renders the rule that puts `*` in place of the first label.
fn wildcard() -> String {
    "http-request set-var(txn.wildcard) var(txn.host),regsub(^[^.]+,*)".to_owned()
}

/// Renders the lookups, domain first: where the map has `HOST//`, the domain is known without this path, and HAProxy looks
/// up nothing less exact. Only the root path starts `HOST//` as well, and the first lookup would have found that.
fn lookup() -> String {
    let unless = "if !{ var(txn.backend) -m found }";
    let step = |key: &str| format!("    http-request set-var(txn.backend) {key},map_beg({ROUTES})");
    let path = ",concat(,txn.path)";
    let steps = [
        step(&format!("var(txn.host){path}")),
        format!("{} {unless}", step("var(txn.host),concat(//)")),
        format!("    {} {unless}", wildcard()),
        format!("{} {unless}", step(&format!("var(txn.wildcard){path}"))),
        format!("{} {unless}", step("var(txn.wildcard),concat(//)")),
        format!("{} {unless}", step(&format!("str({ANY_DOMAIN}/)"))),
        format!("    http-request deny deny_status 503 if {{ var(txn.backend) -m str {NOBODY} }}"),
    ];
    steps.map(|line| line + "\n").concat()
}

/// Renders the lookup of services that came since the last reload and live in a standby backend.
fn standbys_lookup() -> String {
    format!("    http-request set-var(txn.backend) var(txn.backend),map({STANDBYS})\n")
}

const USE: &str = "    use_backend %[var(txn.backend)]\n";

/// Renders empty backends for services that come later.
fn standbys(settings: &Settings) -> String {
    let mut text = "\n# For services that come before the next reload\n".to_owned();
    text.extend((1..=settings.standbys()).flat_map(|number| ["backend ".to_owned(), format!("{STANDBY}{number}\n")]));
    text
}
