//! The commands that show something and end.

pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod log;
pub(crate) mod plugin;
pub(crate) mod render;
mod table;
