//! What an agent says of itself in the registry, so that others can tell a loss from a withdrawal.

use serde::{Deserialize, Serialize};

use super::Node;

/// Where agents say that they are there; the rest of a key is the name of the node. No layout may write here.
pub const AGENTS: &str = "/waypost/agents/";

/// What an agent says of itself. Its key hangs on the lease of what it registered, so both vanish together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether it stays.
    pub state: PresenceState,
    /// Address of its host, which tells two hosts of one name apart.
    #[serde(default)]
    pub address: String,
    /// Version of the agent, for people.
    #[serde(default)]
    pub version: String,
}

/// Whether an agent stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceState {
    /// Everything it has to offer is registered.
    Here,
    /// It takes back what it registered.
    Leaving,
}

impl Presence {
    /// What the agent on `node` says.
    pub fn new(node: &Node, state: PresenceState) -> Self {
        Presence { state, address: node.address.clone(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The key of the agent on the node of this name.
    pub fn key(node: &str) -> String {
        format!("{AGENTS}{node}")
    }

    /// The name of the node whose agent has this key.
    pub fn node(key: &str) -> Option<&str> {
        key.strip_prefix(AGENTS)
    }

    /// As it stands in the registry.
    pub fn to_text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Reads a value. A later version may say more than this one knows: who says anything is there.
    pub fn from_text(text: &str) -> Self {
        let unknown = Presence { state: PresenceState::Here, address: String::new(), version: String::new() };
        serde_json::from_str(text).unwrap_or(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_unknown_is_there() {
        let node =
            Node { name: "web-1".into(), address: "10.0.0.5".into(), attributes: super::super::Attributes::new() };
        let leaving = Presence::new(&node, PresenceState::Leaving);
        assert!(leaving.to_text().contains(r#""state":"leaving""#), "{}", leaving.to_text());
        assert_eq!(Presence::from_text(&leaving.to_text()), leaving);
        assert_eq!(Presence::node(&Presence::key("web-1")), Some("web-1"));
        for text in ["", "{}", "7", r#"{"state":"resting"}"#] {
            assert_eq!(Presence::from_text(text).state, PresenceState::Here, "{text}");
        }
    }
}
