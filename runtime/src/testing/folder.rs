//! A folder for logs that vanishes with its owner.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Tries to find a name that nobody has taken.
const NAMES_TRIED_MAX: usize = 100;

/// A new folder in the system's folder for temporary files, removed when dropped unless kept.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..NAMES_TRIED_MAX {
            let path = parent.join(format!("{name}-{}-{:08x}", std::process::id(), fastrand::u32(..)));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, kept: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // A folder that cannot be removed is no reason to fail a test.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
