//! What `show stat` says of one section.

use std::collections::BTreeSet;

/// Who is in a section, and how it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Whether it takes connections of its own.
    pub(super) listens: bool,
    /// Requests and connections in it: also those that wait for a server, or for another try without one.
    pub(super) sessions: u64,
    /// Whether it was made at run time and does not take requests yet (HAProxy 3.4).
    pub(super) is_unpublished: bool,
    /// Whether it hands out cookies.
    pub(super) has_cookie: bool,
    /// Servers without a cookie of their own, where servers were asked about.
    pub(super) bare: BTreeSet<String>,
}

impl Traffic {
    /// Reads the rows of `section`; none when there is no such section.
    ///
    /// # Errors
    /// The error is what was found.
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

/// The cells of a row; a comma between quotes parts none.
fn cells(row: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let fragments = row.split(|character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    fragments.collect()
}
