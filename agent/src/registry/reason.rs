//! etcd's errors as text: what happened, down to the first cause, and what to do about it.

use etcd_client::Error;
use tonic::Code;

pub(super) fn code(error: &Error) -> Option<Code> {
    match error {
        Error::GRpcStatus(status) => Some(status.code()),
        _ => None,
    }
}

/// Whether the same request would get the same answer again.
pub(super) fn is_final(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::PermissionDenied | Code::FailedPrecondition | Code::Unimplemented)
}

/// Whether the connection failed: the next try uses another connection, perhaps to another endpoint.
pub(super) fn is_connection(error: &Error) -> bool {
    match code(error) {
        Some(Code::Unavailable) => true,
        Some(Code::Unknown) => ["transport error", "h2 protocol error"].iter().any(|text| reason(error).contains(text)),
        _ => false,
    }
}

/// Whether the sign-in has to be renewed: it expired, or users or roles were changed since.
pub(super) fn is_token(text: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "Unauthenticated"].iter().any(|known| text.contains(known))
}

/// A verb and its objects; only the first one by name.
pub(super) fn naming(verb: &str, first: &str, number: usize) -> String {
    if number > 1 { format!("{verb} {first} and {} more", number - 1) } else { format!("{verb} {first}") }
}

/// The text of the error, down to its first cause.
pub(super) fn reason(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
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
