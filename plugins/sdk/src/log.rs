//! Log lines; the agent adds the plugin's name. Natively they go nowhere.

use crate::logging::Level;

/// Something to know when looking for a cause.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Something was wrong, and the plugin went on without it.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

fn write(level: Level, message: &str) {
    if cfg!(target_arch = "wasm32") {
        crate::logging::log(level, message);
    }
}
