//! Parses `show stat` of one section.

use std::collections::BTreeSet;

/// The traffic of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Whether the section listens on a port of its own.
    pub(super) listens: bool,
    /// Requests and connections in the section, including those that wait for a server or for a retry.
    pub(super) sessions: u64,
    /// Whether the section was added at run time and does not accept requests yet (HAProxy 3.4).
    pub(super) is_unpublished: bool,
    /// Whether the section sets cookies.
    pub(super) has_cookie: bool,
    /// Servers without a cookie, where the query included servers.
    pub(super) bare: BTreeSet<String>,
}

impl Traffic {
    /// Parses the rows of `section`; `None` when there is no such section.
    ///
    /// # Errors
    /// The error is the text found.
    pub(super) fn read(section: &str, text: &str) -> Result<Option<Self>, String> {
        if text.starts_with("No such proxy") {
            return Ok(None);
        }
        let mut lines = text.lines();
        let header = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or_else(|| text.to_owned())?;
        let mut places = [0; 6];
        for (place, name) in places.iter_mut().zip(["pxname", "svname", "qcur", "scur", "status", "cookie"]) {
            *place = header.split(',').position(|column| column == name).ok_or_else(|| header.to_owned())?;
        }
        let mut traffic = Traffic::default();
        for line in lines {
            let cells = cells(line);
            let mut row = [""; 6];
            for (cell, place) in row.iter_mut().zip(places) {
                *cell = cells.get(place).copied().ok_or_else(|| line.to_owned())?;
            }
            let [name, kind, queued, sessions, status, cookie] = row;
            if name != section {
                return Err(line.to_owned());
            }
            let count = |cell: &str| cell.parse::<u64>().map_err(|_| line.to_owned());
            match kind {
                "FRONTEND" => traffic.listens = status != "STOP",
                "BACKEND" => {
                    traffic.sessions = count(queued)?.max(count(sessions)?);
                    traffic.is_unpublished = status.contains("UNPUB");
                    traffic.has_cookie = !cookie.is_empty();
                }
                server if cookie.is_empty() => drop(traffic.bare.insert(server.to_owned())),
                _ => {}
            }
        }
        Ok(Some(traffic))
    }
}

/// Splits a row into cells; a comma between quotes does not separate.
fn cells(row: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let fragments = row.split(|character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    fragments.collect()
}
