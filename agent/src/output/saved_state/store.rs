//! The database: redb is known here alone. Keys are names of services and claims, values are JSON.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use redb::{Builder, Database, DatabaseError, ReadableTable as _, StorageError, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::record::{Changes, Record};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const SERVICES: Table = Table::new("services");
const CLAIMS: Table = Table::new("claims");
/// Memory for pages, in bytes.
const CACHE: usize = 1 << 20;

pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the database, made anew when it is none of an agent's, and gives what it has.
    ///
    /// # Errors
    /// The file cannot be read or written, or another agent has it open.
    pub(super) fn open(path: &Path) -> Result<(Self, Record)> {
        let store = Store { database: open(path)?, path: path.to_owned() };
        match store.read() {
            Ok(record) => Ok((store, record)),
            Err(error) => {
                warn!(path = %path.display(), error = %format_args!("{error:#}"), "cannot read the saved state; it begins anew");
                store.save(&Changes { is_all: true, ..Changes::default() })?;
                Ok((store, Record::default()))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<Record> {
        let transaction = self.database.begin_write()?;
        let services = entries(&transaction, SERVICES)?.into_iter().collect();
        let claims = entries(&transaction, CLAIMS)?.into_iter().collect();
        transaction.commit()?;
        Ok(Record { services, claims })
    }

    /// Writes changes: all of them or none.
    ///
    /// # Errors
    /// The disk does not take them.
    pub(super) fn save(&self, changes: &Changes) -> Result<()> {
        let transaction = self.database.begin_write()?;
        if changes.is_all {
            transaction.delete_table(SERVICES)?;
            transaction.delete_table(CLAIMS)?;
        }
        put(&transaction, SERVICES, &changes.services)?;
        put(&transaction, CLAIMS, &changes.claims)?;
        Ok(transaction.commit()?)
    }
}

/// Opens or makes the file; one that is no database makes room for one.
fn open(path: &Path) -> Result<Database> {
    let create = || Builder::new().set_cache_size(CACHE).create(path);
    match create() {
        Err(DatabaseError::DatabaseAlreadyOpen) => {
            anyhow::bail!("another agent has it open: give each agent a state-dir of its own")
        }
        Err(DatabaseError::Storage(StorageError::Io(error))) if error.kind() != ErrorKind::InvalidData => {
            Err(error).context("it cannot be opened")
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read the saved state; it begins anew");
            fs::remove_file(path).context("it cannot be removed")?;
            Ok(create()?)
        }
        Ok(database) => Ok(database),
    }
}

fn entries<T: DeserializeOwned>(transaction: &WriteTransaction, table: Table) -> Result<Vec<(Arc<str>, T)>> {
    let mut entries = Vec::new();
    for entry in transaction.open_table(table)?.iter()? {
        let (key, value) = entry?;
        let value = serde_json::from_slice(value.value()).with_context(|| format!("the value of {}", key.value()))?;
        entries.push((Arc::from(key.value()), value));
    }
    Ok(entries)
}

fn put<T: Serialize>(transaction: &WriteTransaction, table: Table, changes: &[(Arc<str>, Option<T>)]) -> Result<()> {
    let mut table = transaction.open_table(table)?;
    for (key, value) in changes {
        match value {
            Some(value) => _ = table.insert(&**key, &*serde_json::to_vec(value)?)?,
            None => _ = table.remove(&**key)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::output::claims::Held;

    #[test]
    fn what_is_saved_is_there_again_and_what_is_no_database_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("served.redb");
        fs::write(&path, "not what an agent writes").unwrap();
        let (store, record) = Store::open(&path).unwrap();
        assert!(record.services.is_empty() && record.claims.is_empty());
        let held = Held { holder: "shop".into(), since: 7, waiting: BTreeSet::new() };
        let claim: Arc<str> = "domain shop.example".into();
        let changes = Changes { claims: vec![(Arc::clone(&claim), Some(held.clone()))], ..Changes::default() };
        store.save(&changes).unwrap();
        let Err(error) = Store::open(&path) else { panic!("two have it open") };
        assert!(error.to_string().contains("another agent has it open"), "{error:#}");
        drop(store);
        let (store, record) = Store::open(&path).unwrap();
        assert_eq!(record.claims.get(&claim), Some(&held));
        store.save(&Changes { is_all: true, ..Changes::default() }).unwrap();
        drop(store);
        assert!(Store::open(&path).unwrap().1.claims.is_empty());
    }
}
