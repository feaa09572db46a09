//! Lines that the stats socket takes.

/// Longest line, in bytes. A longer one than `tune.bufsize` (16 KiB unless changed) is cut off by HAProxy; this leaves room, and
/// keeps the answer to one line small.
pub(super) const LINE_LIMIT: usize = 4096;

/// Joins commands, keeping their order, into lines that HAProxy takes.
pub(super) fn join<'a>(commands: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for command in commands {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + command.len() <= LINE_LIMIT => {
                line.push_str("; ");
                line.push_str(command);
            }
            _ => lines.push(command.to_owned()),
        }
    }
    lines
}

/// Whether the stats socket takes it for itself in a word.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/=+@,()%-".contains(&byte)
}
