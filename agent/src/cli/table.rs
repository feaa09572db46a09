//! Tables and colour for people; plain where nobody looks.

use std::io::{IsTerminal, Write};

use unicode_width::UnicodeWidthStr as _;
use waypost::model::printable;

/// Prints a line; when nobody reads any more, as behind `| head`, the command is done.
macro_rules! say {
    ($($text:tt)*) => {
        crate::cli::table::line(&format!($($text)*))
    };
}
pub(crate) use say;

pub(crate) fn line(text: &str) {
    write(text, "\n");
}

pub(crate) fn write(text: &str, end: &str) {
    let mut out = std::io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Whether standard output is a terminal that takes colour.
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Wraps text in an SGR code such as `1` (bold), `32` (green), `31` (red), `2` (dim).
pub(crate) fn paint(code: &str, text: &str) -> String {
    if colour() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Prints rows under a header, columns as wide as their widest cell; control characters are shown, not sent.
pub(crate) fn print(header: &[&str], rows: &[Vec<String>]) {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
        cells.max().unwrap_or(0).max(header[column].len())
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let joined = |cells: &mut dyn Iterator<Item = &str>| {
        let pad = |(cell, width): (&str, &usize)| cell.to_owned() + &" ".repeat(width.saturating_sub(cell.width()));
        let padded: Vec<_> = cells.zip(&widths).map(pad).collect();
        padded.join("  ").trim_end().to_owned()
    };
    line(&paint("1", &joined(&mut header.iter().copied())));
    for row in &rows {
        line(&joined(&mut row.iter().map(String::as_str)));
    }
}
