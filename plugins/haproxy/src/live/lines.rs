//! Builds lines that the stats socket accepts.

/// Longest line, in bytes. HAProxy cuts a line off at `tune.bufsize` (16 KiB by default); this limit stays well below and keeps
/// the answer to one line small.
pub(super) const LINE_LIMIT: usize = 4096;

/// Joins commands into lines, and keeps their order.
pub(super) fn pack<'a>(commands: impl IntoIterator<Item = &'a str>) -> Vec<String> {
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

/// Returns whether the byte has no special meaning to the stats socket.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:/=+@,()%-".contains(&byte)
}
