//! Single steps on single files: what is there, a candidate beside it, and the exchange.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::access::Access;
use super::error::{SET_ACCESS, WriteError};

#[expect(clippy::cast_possible_wrap, reason = "open flags are small bits")]
fn flags(flags: OFlags) -> i32 {
    flags.bits() as i32
}

/// Checks that a path stays below the root, passes no link, and that a file can be there.
pub(super) fn check(root: &Path, path: &str) -> Result<(), WriteError> {
    let refuse = |at: &Path, kind: io::ErrorKind, found: &str| {
        Err(WriteError::new("write", at, io::Error::new(kind, found.to_owned())))
    };
    let relative = Path::new(path);
    let plain = relative.components().all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !plain || path.contains(['\n', '\0']) || path.ends_with('/') || path.starts_with(".waypost") {
        return refuse(relative, io::ErrorKind::InvalidInput, "it leads out of the directory or is the agent's own");
    }
    let mut at = root.to_owned();
    for component in relative.parent().iter().flat_map(|parent| parent.components()) {
        at.push(component);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => return refuse(&at, io::ErrorKind::NotADirectory, "it is a link"),
            Ok(_) => return refuse(&at, io::ErrorKind::NotADirectory, "it is not a directory"),
            Err(_) => return Ok(()),
        }
    }
    let target = root.join(relative);
    match fs::symlink_metadata(&target) {
        // What is left of files that went; see `put`.
        Ok(found) if found.is_dir() && fs::read_dir(&target).is_ok_and(|mut all| all.next().is_none()) => Ok(()),
        Ok(found) if found.is_dir() => refuse(&target, io::ErrorKind::IsADirectory, "it is a directory"),
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            refuse(&target, io::ErrorKind::AlreadyExists, "it is a device, pipe or socket")
        }
        _ => Ok(()),
    }
}

/// Whether a regular file with exactly this text is there, with the mode and owner that are wanted.
pub(super) fn is_same(target: &Path, text: &str, access: &Access) -> bool {
    let open = OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(target);
    let Ok(mut file) = open else { return false };
    let fits = |found: fs::Metadata| found.is_file() && found.len() == text.len() as u64 && access.fits(&found);
    if !file.metadata().is_ok_and(fits) {
        return false;
    }
    let mut rest = text.as_bytes();
    let mut buffer = vec![0; rest.len().clamp(1, 64 << 10)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return rest.is_empty(),
            Ok(count) => match rest.strip_prefix(&buffer[..count]) {
                Some(after) => rest = after,
                None => return false,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// Creates the stage, in place of one that is there; nobody but the agent's user gets in.
pub(super) fn create_stage(stage: &Path) -> Result<(), WriteError> {
    remove_tree(stage).map_err(|error| WriteError::new("remove", stage, error))?;
    DirBuilder::new().mode(0o700).create(stage).map_err(|error| WriteError::new("create", stage, error))
}

/// Writes a candidate with the mode and owner that are wanted, else those of the file that it is to replace.
pub(super) fn write_candidate(
    stage: &Path,
    path: &str,
    text: &str,
    target: &Path,
    access: &Access,
) -> Result<(), WriteError> {
    let candidate = stage.join(path);
    let parent = candidate.parent().unwrap_or(stage);
    fs::create_dir_all(parent).map_err(|error| WriteError::new("create", parent, error))?;
    let old = fs::symlink_metadata(target).ok().filter(fs::Metadata::is_file);
    let file = write_new(&candidate, text).map_err(|error| WriteError::new("write", &candidate, error))?;
    access.give(&file, old.as_ref()).map_err(|error| WriteError::new(SET_ACCESS, target, error))
}

/// Writes a file that must not be there yet; nobody else may read it so far.
pub(super) fn write_new(path: &Path, text: &str) -> io::Result<File> {
    let nofollow = flags(OFlags::NOFOLLOW);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(nofollow).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Waits until the disk has the text of a candidate: a power cut between name and text would leave an empty file.
pub(super) fn settle(candidate: &Path) -> Result<(), WriteError> {
    let synced = File::open(candidate).and_then(|file| file.sync_all());
    synced.map_err(|error| WriteError::new("write", candidate, error))
}

/// Moves a candidate into place; where a mount forbids the exchange, its text is written into the old file.
pub(super) fn put(root: &Path, path: &str, candidate: &Path, access: &Access) -> Result<(), WriteError> {
    check(root, path)?;
    let target = root.join(path);
    let parent = target.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(|error| WriteError::new("create", parent, error))?;
    if fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir(&target).map_err(|error| WriteError::new("replace", &target, error))?;
    }
    match fs::rename(candidate, &target) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
            tracing::debug!(path = %target.display(), "it is a mount of its own and is written in place");
            write_in_place(&target, candidate, access)
        }
        Err(error) => Err(WriteError::new("replace", &target, error)),
    }
}

/// Writes into the file that is there, which cannot be exchanged because it is mounted by itself.
///
/// Room for the new text is asked for first, so a full disk leaves the old text untouched, and a failure after that puts
/// it back. It is not atomic: a crash in between leaves both mixed, which the next run finds and mends.
fn write_in_place(target: &Path, candidate: &Path, access: &Access) -> Result<(), WriteError> {
    let wrong = |error| WriteError::new("write", target, error);
    let (old, new) = (fs::read(target).map_err(wrong)?, fs::read(candidate).map_err(wrong)?);
    let nofollow = flags(OFlags::NOFOLLOW);
    let mut file = OpenOptions::new().write(true).custom_flags(nofollow).open(target).map_err(wrong)?;
    let found = file.metadata().map_err(wrong)?;
    if !access.fits(&found) {
        access.give(&file, Some(&found)).map_err(|error| WriteError::new(SET_ACCESS, target, error))?;
    }
    make_room(&file, old.len() as u64, new.len() as u64).map_err(wrong)?;
    let mut write = |text: &[u8]| {
        io::Seek::rewind(&mut file)?;
        file.write_all(text)?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    };
    let written = write(&new).inspect_err(|_| {
        if let Err(error) = write(&old) {
            tracing::error!(path = %target.display(), %error, "cannot put the old file back; restore it by hand");
        }
    });
    written.map_err(wrong)
}

/// Has blocks allocated for `new` bytes without a change that a reader sees; where a file system cannot do so, writing
/// tells.
fn make_room(file: &File, old: u64, new: u64) -> io::Result<()> {
    if new <= old {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, new) {
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
            // What was allocated of it goes back.
            file.set_len(old)?;
            Err(io::ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    }
}

/// Removes a file; tells whether there was one. One that is a mount of its own cannot go, and is emptied.
pub(super) fn remove(target: &Path) -> Result<bool, WriteError> {
    match fs::remove_file(target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let nofollow = flags(OFlags::NOFOLLOW);
            let emptied = OpenOptions::new().write(true).truncate(true).custom_flags(nofollow).open(target);
            emptied.map_err(|error| WriteError::new("empty", target, error))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(WriteError::new("remove", target, error)),
    }
}

/// Removes a directory with all in it, or whatever else has its name; links are not followed.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Waits until the disk has the names of these files, which a sync of the files alone does not promise.
pub(super) fn sync(root: &Path, paths: &[String]) -> Result<(), WriteError> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in paths {
        let parents = Path::new(path).ancestors().skip(1);
        directories.extend(parents.map(|parent| root.join(parent)).filter(|directory| directory.is_dir()));
    }
    directories.sort();
    directories.dedup();
    for directory in directories {
        let synced = File::open(&directory).and_then(|open| open.sync_all());
        synced.map_err(|error| WriteError::new("sync", &directory, error))?;
    }
    Ok(())
}
