//! What plugins in Rust share.
//!
//! A plugin is a crate with a type that implements [`Plugin`], pure public functions over the types of
//! [`types`], and one macro that makes them a component: [`grouping!`], [`layout!`], [`output!`] or
//! [`live_output!`]. The macros expand to nothing but on wasm32, so several plugins link into one native
//! program, where tests and benchmarks call the very same functions.

pub mod attributes;
pub mod check;
mod export;
pub mod grouping;
pub mod layout;
pub mod log;
pub mod proxy;
pub mod reach;
#[cfg(not(target_arch = "wasm32"))]
pub mod sample;
pub mod settings;
#[cfg(test)]
mod tests;

pub use bindings::waypost::plugin::{logging, types};
pub use types::{Attachment, Container, Health, Instance, Node, PluginError, Port, Readiness, Service, Transport};

#[doc(hidden)]
pub use wit_bindgen;

/// Generated from the interfaces that every plugin shares, so that all plugins share their Rust types too.
mod bindings {
    // Generated code follows neither our lints nor our documentation rule.
    #![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::pedantic)]

    wit_bindgen::generate!({
        inline: "
            package waypost:plugin-sdk;
            world shared {
                import waypost:plugin/types@0.1.0;
                import waypost:plugin/logging@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        additional_derives: [PartialEq, Eq],
    });
}

/// What a plugin says of itself.
pub trait Plugin {
    /// What the operator may set.
    type Settings: settings::Settings;
    /// Name in the configuration file.
    const NAME: &'static str;
    /// One sentence for `waypost plugin list`.
    const SUMMARY: &'static str;
    /// JSON Schema of [`Plugin::Settings`].
    const SCHEMA: &'static str;
    /// Environment variables of containers it needs to see; `*` ends a prefix.
    const ENVIRONMENT: &'static [&'static str] = &[];
}

/// What one container means to service discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The instances it provides.
    pub provides: Vec<Instance>,
    /// Service names, or `*.` and a suffix.
    pub consumes: Vec<String>,
}

/// The lease that an entry is put under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKind {
    /// The lease of the host that writes it.
    Host,
    /// A lease of its own, which every host that writes the same value keeps alive.
    Shared,
}

/// A key and its value in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute, `/`-separated.
    pub key: String,
    /// Text.
    pub value: String,
}

/// An entry that an instance is registered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Absolute, `/`-separated.
    pub key: String,
    /// Text.
    pub value: String,
    /// The lease that it is put under.
    pub lease: LeaseKind,
}

/// A piece of one file; services share one whose text is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// File below the output's directory.
    pub path: String,
    /// Place in the file, in bytewise order.
    pub key: String,
    /// Whole lines.
    pub text: String,
}

impl Fragment {
    /// A fragment of the file `path`.
    pub fn new(path: &str, key: impl Into<String>, text: impl Into<String>) -> Self {
        Fragment { path: path.to_owned(), key: key.into(), text: text.into() }
    }
}

/// What one service is in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// Its fragments; without them it leaves the files.
    pub fragments: Vec<Fragment>,
    /// All that it asks for and only one service can have, in words for people; the same whatever it is denied.
    pub claims: Vec<String>,
}

/// A service as it was last and as it is wanted; absent where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it was last.
    pub before: Option<Service>,
    /// As it is wanted.
    pub after: Option<Service>,
}

/// How a running process is brought to the wanted state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivePlan {
    /// Commands for the stats socket, in order; none when all is as wanted.
    Commands(Vec<String>),
    /// The same, and a reload soon after would be good: what was prepared for such changes runs short.
    CommandsAndReload(Vec<String>),
    /// This cannot be done without a reload.
    Reload,
}

/// Refuses an input with a sentence that names what was found and what is expected.
pub fn refuse<T>(text: impl Into<String>) -> Result<T, PluginError> {
    Err(PluginError::InvalidInput(text.into()))
}

/// Shortens hostile text to 60 characters and quotes it, so that it can stand in a message.
pub fn show(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}
