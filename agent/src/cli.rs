//! The commands, one file each, and what they share: arguments, failures, logging, tables.

pub(crate) mod argument;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod failure;
pub(crate) mod log;
pub(crate) mod plugin;
pub(crate) mod render;
pub(crate) mod run;
mod table;
