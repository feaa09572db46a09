//! Renders the lines of a block: the plugin's, and those that the operator adds.

use waypost_plugin_sdk::proxy::bind::Bind;
use waypost_plugin_sdk::settings::Line;

/// Renders our lines, then the operator's. A directive of the operator's replaces ours, because nginx accepts most of them only
/// once; a header is identified by its name, a block by the words before it.
pub(crate) fn merged<'a>(indent: &str, ours: impl IntoIterator<Item = &'a str>, theirs: &'a [Line]) -> String {
    let replaced = |line: &str| theirs.iter().any(|their| names(&their.0) == names(line));
    let kept = ours.into_iter().filter(|line| !replaced(line));
    kept.chain(theirs.iter().map(|line| line.0.as_str())).flat_map(|line| [indent, line, "\n"]).collect()
}

/// Renders the `listen` lines of a server; `options` begin with a space.
pub(crate) fn listen(binds: &[Bind], options: &str) -> String {
    let lines: Vec<String> = binds.iter().map(|bind| format!("    listen {bind}{options};\n")).collect();
    lines.concat()
}

/// Identifies what a line sets: its directive, the name of a header, and the words before a block.
fn names(line: &str) -> (&str, Option<String>) {
    let mut words = line.split_whitespace();
    let directive = words.next().unwrap_or_default();
    let rest = match directive {
        "proxy_set_header" => words.next().map(str::to_ascii_lowercase),
        "location" | "if" => line.split('{').next().map(|head| head.split_whitespace().collect::<Vec<_>>().join(" ")),
        _ => None,
    };
    (directive, rest)
}
