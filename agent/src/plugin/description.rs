//! What a plugin says of itself.

/// The three kinds of plugins, told by what they export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Containers to instances.
    Grouping,
    /// Instances to entries and back.
    Layout,
    /// Services to fragments of files.
    Output,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Grouping => "grouping",
            Kind::Layout => "layout",
            Kind::Output => "output",
        })
    }
}

/// What a plugin says of itself, and what was seen of it.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// JSON Schema of its settings; empty when there are none.
    pub settings_schema: String,
    /// Variables of containers it is shown; `*` ends a prefix.
    pub environment: Vec<String>,
    /// What it exports.
    pub kind: Kind,
    /// Whether it can change a running proxy without a reload.
    pub live: bool,
    /// Digest of its bytes, hexadecimal.
    pub sha256: String,
}
