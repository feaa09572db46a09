//! Who may read an output's files.

use serde::Deserialize;

/// Permission bits of a file, written in octal like `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawMode")]
pub struct Mode(pub u32);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected octal digits in quotes, like \"0640\"")]
enum RawMode {
    Text(String),
}

impl TryFrom<RawMode> for Mode {
    type Error = String;

    fn try_from(RawMode::Text(text): RawMode) -> Result<Self, String> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| octal && *mode <= 0o777);
        match mode {
            // The agent compares what is on the disk with what is to be there.
            Some(mode) if mode & 0o400 == 0 => {
                Err(format!("found {text:?}, expected a mode that lets the owner read, like \"0640\""))
            }
            Some(mode) => Ok(Mode(mode)),
            None => Err(format!("found {text:?}, expected octal digits from \"0400\" to \"0777\", like \"0640\"")),
        }
    }
}

/// User and group by name or number, written like `"haproxy:haproxy"`, `"0:104"`, `"haproxy"` or `":ssl-cert"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Owner {
    /// The user, where one is given.
    pub user: Option<String>,
    /// The group, where one is given.
    pub group: Option<String>,
}

impl TryFrom<String> for Owner {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((&text, ""));
        let plain = |name: &str| !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == ':');
        let given = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let owner = Owner { user: given(user), group: given(group) };
        if !plain(user) || !plain(group) || (owner.user.is_none() && owner.group.is_none()) {
            return Err(format!("found {text:?}, expected \"USER:GROUP\", \"USER\" or \":GROUP\", names or numbers"));
        }
        Ok(owner)
    }
}
