//! Checks, reloads and supervision with real processes.

#![allow(unreachable_pub, missing_docs)]

#[cfg(test)]
mod proxy {
    mod foreign;
    mod master;
    mod site;
    mod supervised;
}
