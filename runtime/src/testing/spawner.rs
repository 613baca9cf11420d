//! The thread that starts child processes, so that they end with this process and not before.
//!
//! `PR_SET_PDEATHSIG` goes by the thread that forked: were a server started from a test's thread, it
//! would be killed when that test's thread ends. So one thread that lives as long as the process forks
//! them all.
//!
//! Such a fork copies the page tables of a process that may be large and busy by then, and all of its threads pay
//! for the first write to each page after it: some milliseconds in which nobody gets on, which whoever measures the
//! return of a server would take for its work. So a server that starts again goes through `setpriv` and `sh`,
//! which need no work between fork and exec, and so no copy.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

/// A freshly written binary is "busy" while another thread's fork still holds its descriptor.
const BUSY_TRIES_MAX: usize = 200;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Asks the kernel for the end of what follows with that of its parent.
const LAUNCHER: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];
/// Becomes its arguments, unless the parent ended before the kernel was asked.
const LAUNCH: &str = r#"test "$PPID" = "$0" && exec "$@""#;

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a process that the kernel kills when this process ends, however it ends.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    // Now, when nobody measures yet, rather than at the first start that needs it.
    has_launcher();
    die_with(&mut command, std::process::id());
    run(command)
}

/// As [`spawn`], with as little as possible for the other threads of this process to notice. What cannot be run is
/// no error here: the process ends, and its error output says why.
pub(super) fn spawn_again<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    set: impl FnOnce(&mut Command),
) -> io::Result<Child> {
    if !has_launcher() {
        let mut command = Command::new(program);
        set(command.args(arguments));
        return spawn(command);
    }
    let mut command = Command::new(LAUNCHER[0]);
    command.args(&LAUNCHER[1..]).args(["sh", "-c", LAUNCH]).arg(std::process::id().to_string());
    set(command.arg(program).args(arguments));
    run(command)
}

/// Whether there is a `setpriv` that does what it is wanted for; some are smaller.
fn has_launcher() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let mut command = Command::new(LAUNCHER[0]);
        command.args(&LAUNCHER[1..]).args(["sh", "-c", "exit 0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// Has the spawner's thread start it.
fn run(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts processes has ended");
    let (answer, child) = mpsc::channel();
    spawner()?.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

fn spawner() -> io::Result<&'static mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<Result<mpsc::Sender<Job>, io::ErrorKind>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let work = move || {
            for (command, answer) in jobs {
                // A caller that has gone away takes its child with it: the answer is dropped.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(start(command)) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        };
        match thread::Builder::new().name("croupier-spawner".to_owned()).spawn(work) {
            Ok(_) => Ok(sender),
            Err(error) => Err(error.kind()),
        }
    });
    spawner.as_ref().map_err(|kind| io::Error::from(*kind))
}

fn start(mut command: Command) -> io::Result<Child> {
    let mut tries = 1;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES_MAX => {
                tries += 1;
                thread::sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

fn die_with(command: &mut Command, parent: u32) {
    let ask = move || {
        // SAFETY: `prctl` with these arguments touches no memory; it is a bare system call, so it may
        // be made between fork and exec.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before the request; then the child has another one.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure makes two bare system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}
