//! What plugins, containers and registries write is hostile until it passed here.

use std::net::IpAddr;

use super::{Claim, Entry, Fragment, Instance, Readiness};

/// Longest service name and instance id, in bytes; a DNS name has at most 253.
const NAME_LIMIT: usize = 253;
/// Longest attribute value, in bytes.
const ATTRIBUTE_LIMIT: usize = 16 << 10;
/// Most attributes of one instance.
const ATTRIBUTES_LIMIT: usize = 256;
/// Longest registry key and file path, in bytes.
const KEY_LIMIT: usize = 1024;
/// Longest segment of a key or path, in bytes; file systems take no longer name.
const SEGMENT_LIMIT: usize = 255;
/// Most claims of one service.
const CLAIMS_LIMIT: usize = 16 << 10;
/// Longest registry value, in bytes; etcd accepts requests up to 1.5 MiB.
pub const VALUE_LIMIT: usize = 512 << 10;

/// Why a value was refused; says what was found and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CheckError(String);

fn refuse<T>(text: String) -> Result<T, CheckError> {
    Err(CheckError(text))
}

/// Shortens hostile text so that it can stand in a log line.
fn show(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// Text that can be shown to a person: control characters are escaped, so that it moves no cursor and ends no line.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

fn check_name(what: &str, text: &str) -> Result<(), CheckError> {
    if text.is_empty() {
        return refuse(format!("{what} is empty"));
    }
    if text.len() > NAME_LIMIT {
        return refuse(format!("{what} {} has {} bytes, at most {NAME_LIMIT} are allowed", show(text), text.len()));
    }
    if let Some(bad) = text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        return refuse(format!(
            "{what} {} contains {bad:?}; white space and control characters are not allowed",
            show(text)
        ));
    }
    if text.split('/').any(|segment| segment.is_empty() || segment == "." || segment == "..") {
        return refuse(format!("{what} {} has an empty, `.` or `..` segment", show(text)));
    }
    Ok(())
}

fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (text.len() <= NAME_LIMIT
            && !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            && !text.starts_with(['-', '.']))
}

/// Checks an instance from a grouping or a layout.
///
/// # Errors
/// Names the field, what was found and what is allowed.
pub fn check_instance(instance: &Instance) -> Result<(), CheckError> {
    check_name("the service name", &instance.service)?;
    check_name("the instance id", &instance.id)?;
    if !is_host(&instance.address) {
        return refuse(format!("the address {} is neither an IP address nor a host name", show(&instance.address)));
    }
    if instance.readiness == Readiness::Gone {
        return refuse("its readiness is gone, expected ready or draining".to_owned());
    }
    if instance.port == 0 {
        return refuse("the port is 0, expected 1 to 65535".to_owned());
    }
    if instance.attributes.len() > ATTRIBUTES_LIMIT {
        return refuse(format!(
            "it has {} attributes, at most {ATTRIBUTES_LIMIT} are allowed",
            instance.attributes.len()
        ));
    }
    for (name, value) in &instance.attributes {
        check_name("the attribute name", name)?;
        if value.len() > ATTRIBUTE_LIMIT {
            return refuse(format!(
                "attribute {name} has {} bytes, at most {ATTRIBUTE_LIMIT} are allowed",
                value.len()
            ));
        }
        if let Some(bad) = value.chars().find(|c| c.is_control()) {
            return refuse(format!("attribute {name} contains {bad:?}; control characters are not allowed"));
        }
    }
    Ok(())
}

/// Checks what an output's plugin says that a service asks for.
///
/// # Errors
/// Says what was found and what is allowed.
pub fn check_claims(claims: &[Claim]) -> Result<(), CheckError> {
    if claims.len() > CLAIMS_LIMIT {
        return refuse(format!("it has {} claims, at most {CLAIMS_LIMIT} are allowed", claims.len()));
    }
    for claim in claims {
        if claim.is_empty() || claim.len() > KEY_LIMIT + NAME_LIMIT || claim.chars().any(char::is_control) {
            return refuse(format!("the claim {} is no line of at most {} bytes", show(claim), KEY_LIMIT + NAME_LIMIT));
        }
    }
    Ok(())
}

/// Checks what a container wants: a service name, or `*.` and a suffix.
///
/// # Errors
/// Says what was found.
pub fn check_consumed(want: &str) -> Result<(), CheckError> {
    check_name("the wanted service", want.strip_prefix("*.").unwrap_or(want))
}

/// Checks an entry of a layout that owns `prefixes`.
///
/// # Errors
/// Names the key and what is wrong with it.
pub fn check_entry(entry: &Entry, prefixes: &[String]) -> Result<(), CheckError> {
    let Entry { key, value, .. } = entry;
    let Some(prefix) = prefixes.iter().find(|prefix| key.starts_with(prefix.as_str())) else {
        return refuse(format!("the key {} lies outside the layout's prefixes {}", show(key), prefixes.join(" ")));
    };
    check_path("the key", &key[prefix.len()..])?;
    if value.len() > VALUE_LIMIT {
        return refuse(format!("the value of {key} has {} bytes, at most {VALUE_LIMIT} are allowed", value.len()));
    }
    Ok(())
}

/// Checks a part of a file: a relative path, and whole lines of text.
///
/// # Errors
/// Names the path and what is wrong with it.
pub fn check_fragment(fragment: &Fragment) -> Result<(), CheckError> {
    check_path("the path", &fragment.path)?;
    if fragment.path.starts_with('.') {
        return refuse(format!("the path {} is hidden; expected a name without a leading dot", show(&fragment.path)));
    }
    if !fragment.text.is_empty() && !fragment.text.ends_with('\n') {
        return refuse(format!(
            "the text for {} key {} does not end its last line",
            fragment.path,
            show(&fragment.key)
        ));
    }
    if fragment.text.contains('\0') {
        return refuse(format!("the text for {} key {} contains a NUL byte", fragment.path, show(&fragment.key)));
    }
    Ok(())
}

fn check_path(what: &str, path: &str) -> Result<(), CheckError> {
    if path.len() > KEY_LIMIT {
        return refuse(format!("{what} {} has {} bytes, at most {KEY_LIMIT} are allowed", show(path), path.len()));
    }
    if path.split('/').any(|segment| segment.len() > SEGMENT_LIMIT) {
        return refuse(format!("{what} {} has a segment of more than {SEGMENT_LIMIT} bytes", show(path)));
    }
    if path.chars().any(char::is_control) {
        return refuse(format!("{what} {} contains control characters", show(path)));
    }
    if path.split('/').any(|segment| segment.is_empty() || segment == "." || segment == "..") {
        return refuse(format!(
            "{what} {} is not a plain relative path: it has an empty, `.` or `..` segment",
            show(path)
        ));
    }
    Ok(())
}
