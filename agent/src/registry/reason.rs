//! etcd's errors in words: what happened, down to its first cause, and what to do about it.

// gRPC status codes, by number because the library does not hand out their type.
const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

pub(super) fn code(error: &etcd_client::Error) -> Option<i32> {
    match error {
        etcd_client::Error::GRpcStatus(status) => Some(status.code() as i32),
        _ => None,
    }
}

/// Whether a status says that asking again gets the same answer.
pub(super) fn is_final(code: i32) -> bool {
    matches!(code, INVALID_ARGUMENT | PERMISSION_DENIED | FAILED_PRECONDITION | UNIMPLEMENTED)
}

/// Whether the connection is at fault: another try goes over another one, perhaps to another endpoint.
pub(super) fn is_connection(error: &etcd_client::Error) -> bool {
    match code(error) {
        Some(UNAVAILABLE) => true,
        Some(UNKNOWN) => ["transport error", "h2 protocol error"].iter().any(|text| reason(error).contains(text)),
        _ => false,
    }
}

/// Whether the sign-in has to be renewed: it expired, or users or roles were changed since.
pub(super) fn is_token(text: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "Unauthenticated"].iter().any(|known| text.contains(known))
}

/// A verb and what it is done to, in short.
pub(super) fn naming(verb: &str, first: &str, number: usize) -> String {
    if number > 1 { format!("{verb} {first} and {} more", number - 1) } else { format!("{verb} {first}") }
}

/// The error in words, down to its first cause.
pub(super) fn reason(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What a person can do about an error that does not pass by itself.
pub(super) fn remedy(text: &str) -> Option<&'static str> {
    let known: [(&str, &'static str); 8] = [
        ("invalid user id or password", "check registry.username and registry.password-file"),
        ("user name is empty", "set registry.username and registry.password-file"),
        ("authentication is not enabled", "remove registry.username, or enable authentication in etcd"),
        ("permission denied", "grant the user's role readwrite on the prefixes of the configured layouts"),
        ("database space exceeded", "compact and defragment etcd, then run `etcdctl alarm disarm`"),
        ("request is too large", "make the value shorter, or raise etcd's --max-request-bytes"),
        (
            "certificate",
            "check registry.ca-file, cert-file and key-file, and that etcd's certificate names the endpoint",
        ),
        ("too many operations", "raise etcd's --max-txn-ops to its default of 128"),
    ];
    let text = text.to_lowercase();
    known.iter().find(|(found, _)| text.contains(found)).map(|(_, remedy)| *remedy)
}
