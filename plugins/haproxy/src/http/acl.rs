//! Renders routes as rules of the frontend, in the form of the article: one `acl` for each domain, one `use_backend` for
//! each route. These rules differ from the map in one way: `hdr_dom` also matches subdomains.

use std::collections::BTreeSet;

use waypost_plugin_sdk::Fragment;

use crate::files::configuration;
use crate::names::NOBODY;
use crate::route::{self, Route};

/// Renders the rules of a service with these routes and markers.
pub(super) fn fragments(routes: &BTreeSet<Route>, markers: &BTreeSet<String>, name: &str) -> Vec<Fragment> {
    let domains = |counts: &dyn Fn(&Route) -> bool| -> BTreeSet<&str> {
        routes.iter().filter(|route| counts(route)).map(|route| route.domain.as_str()).collect()
    };
    let acls = domains(&|route| !route::is_default(route)).into_iter().map(acl);
    let unserved = domains(&|route| markers.contains(&route::marker(route))).into_iter().map(nobody);
    acls.chain(routes.iter().map(|route| use_backend(route, name))).chain(unserved).collect()
}

/// Renders the acl of a domain, named like the domain; services that share the domain share the acl.
fn acl(domain: &str) -> Fragment {
    let name = acl_name(domain);
    let condition = match domain.strip_prefix('*') {
        Some(_) => format!("var(txn.wildcard) -m str {domain}"),
        None => format!("hdr_dom(host) -i {domain}"),
    };
    configuration(format!("41 acl {name}"), format!("    acl {name} {condition}\n"))
}

/// Names an acl. HAProxy allows no `*` in names, and no other domain starts with the `.` that is left.
fn acl_name(domain: &str) -> &str {
    domain.strip_prefix('*').unwrap_or(domain)
}

/// Builds the sort key of a rule. HAProxy takes the first rule that matches, and `hdr_dom` also matches subdomains: so
/// longer domains come first, and longer paths within a domain.
fn place(domain: &str, path: usize) -> String {
    let acl = acl_name(domain);
    format!("42 use {:03} {acl} {:04}", 999 - acl.len(), 9999 - path)
}

fn use_backend(route: &Route, name: &str) -> Fragment {
    let Route { domain, path } = route;
    if route::is_default(route) {
        return configuration("43 default", format!("    use_backend {name}\n"));
    }
    let acl = acl_name(domain);
    let condition = match path.as_str() {
        "" => acl.to_owned(),
        path => format!("{acl} {{ var(txn.path) -m beg {path}/ }}"),
    };
    configuration(format!("{} {path}", place(domain, path.len())), format!("    use_backend {name} if {condition}\n"))
}

/// Renders the last rule of a domain: no section has this name, so HAProxy looks no further and answers 503.
fn nobody(domain: &str) -> Fragment {
    let acl = acl_name(domain);
    configuration(format!("{} nobody", place(domain, 0)), format!("    use_backend %[str({NOBODY})] if {acl}\n"))
}
