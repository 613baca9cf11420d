//! Waiting for several sockets at once.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Bytes to read, or a connection to accept.
    Read,
    /// Room to write.
    Write,
    /// Not now.
    Nothing,
}

/// Waits until one of them is ready, or `timeout` has passed; `None` waits for as long as it takes. Tells for
/// each whether it is ready, or broken, which reading or writing then shows.
pub(super) fn poll(
    waiting: &[(BorrowedFd<'_>, Interest)],
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let mut entries: Vec<libc::pollfd> = waiting
        .iter()
        .map(|(descriptor, interest)| {
            let (fd, events) = match interest {
                Interest::Read => (descriptor.as_raw_fd(), libc::POLLIN),
                Interest::Write => (descriptor.as_raw_fd(), libc::POLLOUT),
                // The kernel leaves out what is negative; a broken socket would be told again and again.
                Interest::Nothing => (-1, 0),
            };
            libc::pollfd { fd, events, revents: 0 }
        })
        .collect();
    // Rounded up, so that what is due at the end of the wait is due.
    let timeout = timeout.map_or(-1, |timeout| {
        libc::c_int::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the kernel reads and writes as many entries as the vector has, which lives through the call; the
    // descriptors are borrowed, and so open.
    let result = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted {
            Ok(vec![false; waiting.len()])
        } else {
            Err(error)
        };
    }
    Ok(entries.iter().map(|entry| entry.revents != 0).collect())
}
