//! Lines on their way to standard error: a bounded queue, and the thread that empties it.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Lines that may wait for their thread. One more is dropped, and counted.
pub const LINES_WAITING_MAX: usize = 4096;

/// How often a flush looks for room to ask in a full queue.
const FLUSH_POLL: Duration = Duration::from_millis(1);

enum Entry {
    Line(Vec<u8>),
    Flush(mpsc::Sender<()>),
}

/// The queue's sending end; clones share it.
#[derive(Clone)]
pub(super) struct LogSink {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl LogSink {
    /// Starts the thread that writes to `target`.
    pub(super) fn start(target: impl Write + Send + 'static, format: LogFormat) -> io::Result<Self> {
        let (entries, queue) = mpsc::sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&dropped);
        thread::Builder::new()
            .name("croupier-log".to_owned())
            .spawn(move || write_all(target, format, &queue, &told))?;
        Ok(Self { entries, dropped })
    }

    pub(super) fn lines_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let (answer, answered) = mpsc::channel();
        let mut entry = Entry::Flush(answer);
        loop {
            match self.entries.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => entry = back,
                Err(_) => return false,
            }
            thread::sleep(FLUSH_POLL);
        }
        answered.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Writes what comes; a target that fails takes no line with it but the one.
fn write_all(mut target: impl Write, format: LogFormat, queue: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(entry) = queue.recv() {
        let outcome = match entry {
            Entry::Line(line) => target.write_all(&line),
            Entry::Flush(answer) => {
                let flushed = target.flush();
                // Whoever asked may have given up.
                let _gone = answer.send(());
                flushed
            }
        };
        if outcome.is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
        let missing = dropped.load(Ordering::Relaxed);
        if missing > told && outcome.is_ok() {
            let lines = missing - told;
            let noted = match format {
                LogFormat::Text => writeln!(target, "({lines} lines of the log were dropped)"),
                LogFormat::Json => writeln!(
                    target,
                    "{{\"level\":\"WARN\",\"message\":\"lines of the log were dropped\",\"lines\":{lines}}}"
                ),
            };
            if noted.is_ok() {
                told = missing;
            }
        }
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink").field("dropped", &self.lines_dropped()).finish_non_exhaustive()
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = &'a LogSink;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &LogSink {
    /// Takes one whole event, as the formatter hands it over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A target that keeps what it gets, and stands still while its lock is held.
    #[derive(Clone, Default)]
    struct Target(Arc<Mutex<Vec<u8>>>);

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_in_order_and_a_flush_waits_for_them() {
        let target = Target::default();
        let sink = LogSink::start(target.clone(), LogFormat::Text).unwrap();
        for number in 0..100 {
            (&sink).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(sink.flush(Duration::from_secs(60)));
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&target.0.lock().unwrap()), expected);
        assert_eq!(sink.lines_dropped(), 0);
    }

    #[test]
    fn a_target_that_stands_still_costs_lines_and_nobody_waits() {
        const BEYOND: usize = 100;
        let target = Target::default();
        let sink = LogSink::start(target.clone(), LogFormat::Json).unwrap();
        let held = target.0.lock().unwrap();
        // One may be in the hands of the thread.
        for _ in 0..=LINES_WAITING_MAX + BEYOND {
            (&sink).write_all(b"line\n").unwrap();
        }
        let dropped = sink.lines_dropped();
        assert!((BEYOND as u64..=BEYOND as u64 + 1).contains(&dropped), "{dropped}");
        assert!(!sink.flush(Duration::from_millis(10)));
        drop(held);
        assert!(sink.flush(Duration::from_secs(60)));
        let written = String::from_utf8_lossy(&target.0.lock().unwrap()).into_owned();
        let noted = written.lines().find(|line| line.contains("dropped")).expect("a note");
        let noted: serde_json::Value = serde_json::from_str(noted).unwrap();
        assert_eq!(noted["lines"], dropped);
    }
}
