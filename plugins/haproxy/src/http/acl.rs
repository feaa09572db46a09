//! Routes as rules of the frontend, in the form of the article: one `acl` for each domain, one `use_backend` for each
//! route. `hdr_dom` takes a domain's subdomains as well; that is the one way in which these rules differ from the map.

use std::collections::BTreeSet;

use waypost_plugin_sdk::Fragment;

use super::{Http, NOBODY, Route};
use crate::configuration;

/// The rules of a service.
pub(super) fn fragments(http: &Http, name: &str, fragments: &mut Vec<Fragment>) {
    let domains: BTreeSet<&str> = http.routes.iter().filter(|r| !r.is_default()).map(|r| r.domain.as_str()).collect();
    fragments.extend(domains.into_iter().map(acl));
    fragments.extend(http.routes.iter().map(|route| use_backend(route, name)));
    let markers = http.markers();
    let domains: BTreeSet<&str> = http
        .routes
        .iter()
        .filter(|route| markers.contains(&route.marker()))
        .map(|route| route.domain.as_str())
        .collect();
    fragments.extend(domains.into_iter().map(nobody));
}

/// The acl of a domain is named like it; services that share the domain share it.
fn acl(domain: &str) -> Fragment {
    let name = acl_name(domain);
    let condition = match domain.strip_prefix('*') {
        Some(_) => format!("var(txn.wildcard) -m str {domain}"),
        None => format!("hdr_dom(host) -i {domain}"),
    };
    configuration(format!("41 acl {name}"), format!("    acl {name} {condition}\n"))
}

/// HAProxy takes no `*` in names, and no domain starts with the `.` that is left.
fn acl_name(domain: &str) -> &str {
    domain.strip_prefix('*').unwrap_or(domain)
}

/// HAProxy takes the first rule that fits, and `hdr_dom` also fits subdomains: so longer domains come first, and
/// longer paths within a domain.
fn place(domain: &str, path: usize) -> String {
    let acl = acl_name(domain);
    format!("42 use {:03} {acl} {:04}", 999 - acl.len(), 9999 - path)
}

fn use_backend(route: &Route, name: &str) -> Fragment {
    let Route { domain, path } = route;
    if route.is_default() {
        return configuration("43 default", format!("    use_backend {name}\n"));
    }
    let acl = acl_name(domain);
    let condition = match path.as_str() {
        "" => acl.to_owned(),
        path => format!("{acl} {{ var(txn.path) -m beg {path}/ }}"),
    };
    configuration(format!("{} {path}", place(domain, path.len())), format!("    use_backend {name} if {condition}\n"))
}

/// No section has this name, and with that HAProxy looks no further: the answer is 503.
fn nobody(domain: &str) -> Fragment {
    let acl = acl_name(domain);
    configuration(format!("{} nobody", place(domain, 0)), format!("    use_backend %[str({NOBODY})] if {acl}\n"))
}
