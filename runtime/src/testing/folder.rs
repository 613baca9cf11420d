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
    /// Where the logs are copied before the folder is removed.
    copied_to: Option<PathBuf>,
}

impl Folder {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..NAMES_TRIED_MAX {
            let path = parent.join(format!("{name}-{}-{:08x}", std::process::id(), fastrand::u32(..)));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, kept: false, copied_to: None }),
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

    pub(super) fn copy_logs_to(&mut self, folder: PathBuf) {
        self.copied_to = Some(folder);
    }
}

/// Copies all `*.log` files; one that cannot be copied does not hold up the others.
fn copy_logs(from: &Path, to: &Path) -> io::Result<()> {
    let mut outcome = Ok(());
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let (Some("log"), Some(name)) = (path.extension().and_then(|end| end.to_str()), path.file_name())
            && let Err(error) = fs::copy(&path, to.join(name))
        {
            outcome = Err(error);
        }
    }
    outcome
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(to) = &self.copied_to
            && let Err(error) = copy_logs(&self.path, to)
        {
            eprintln!("the servers' logs cannot be copied to {}: {error}", to.display());
        }
        if !self.kept {
            // A folder that cannot be removed is no reason to fail a test.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
