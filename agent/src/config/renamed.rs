//! Keys that had another name in earlier builds.

/// The end of the old key, and its name now.
pub(super) const RENAMED: &[(&str, &str)] =
    &[("discover.doubt", "self-preservation"), ("settings.spare-backends", "standby-backends")];

/// What to say of a key that nobody knows any more.
pub(super) fn hint(key: &str) -> String {
    let renamed = RENAMED.iter().find(|(old, _)| key.ends_with(old));
    renamed.map(|(_, name)| format!("; it is called {name} now")).unwrap_or_default()
}
