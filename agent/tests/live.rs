//! A running `HAProxy` that follows the catalog over its stats socket.

#![allow(unreachable_pub, missing_docs)]

#[cfg(test)]
mod live {
    mod changes;
    mod joins;
    mod relay;
    mod running;
    mod test_proxy;
}
