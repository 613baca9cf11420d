//! Processor time: of this process, of the servers, and of the whole machine.

use std::fs;
use std::time::Duration;

/// Processor time used so far, user and system together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CpuTimes {
    /// This process, all its threads.
    pub(crate) client: Duration,
    /// The server processes together.
    pub(crate) servers: Duration,
    /// The machine; none where the kernel does not tell.
    pub(crate) machine: Option<MachineTimes>,
}

/// The first line of `/proc/stat`, summed over all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MachineTimes {
    /// Time in which a core did something here: neither idle nor stolen.
    pub(crate) busy: Duration,
    /// Time that the hypervisor gave to others while a task here was ready.
    pub(crate) steal: Duration,
    /// All of it, idle time included.
    pub(crate) total: Duration,
}

impl CpuTimes {
    /// Reads the times of this process, of the processes `servers` and of the machine.
    ///
    /// A server that has ended counts as zero; the run notices its end by other means.
    pub(crate) fn sample(servers: &[u32]) -> Self {
        let ticks = ticks_per_second();
        Self {
            client: own_time(),
            servers: servers.iter().filter_map(|pid| process_time(*pid)).sum(),
            machine: fs::read_to_string("/proc/stat").ok().and_then(|stat| machine_times(&stat, ticks)),
        }
    }

    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let machine = self.machine.zip(earlier.machine).map(|(now, then)| MachineTimes {
            busy: now.busy.saturating_sub(then.busy),
            steal: now.steal.saturating_sub(then.steal),
            total: now.total.saturating_sub(then.total),
        });
        Self {
            client: self.client.saturating_sub(earlier.client),
            servers: self.servers.saturating_sub(earlier.servers),
            machine,
        }
    }

    /// The part of the machine that was stolen, from 0 to 1.
    pub(crate) fn steal_share(&self) -> Option<f64> {
        let machine = self.machine.filter(|machine| !machine.total.is_zero())?;
        Some(machine.steal.as_secs_f64() / machine.total.as_secs_f64())
    }

    /// The part of the machine that neither the client nor the servers used and that was not idle, from 0
    /// to 1: other processes, and what the kernel did on nobody's account.
    pub(crate) fn others_share(&self) -> Option<f64> {
        let machine = self.machine.filter(|machine| !machine.total.is_zero())?;
        let others = machine.busy.saturating_sub(self.client).saturating_sub(self.servers);
        Some(others.as_secs_f64() / machine.total.as_secs_f64())
    }
}

/// The time that a process has used so far; none when it has ended.
pub(crate) fn process_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    process_times(&stat, ticks_per_second())
}

fn own_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a `rusage` of our own; all-zero bytes are a valid one, so it is
    // initialised whether or not the call writes to it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    [usage.ru_utime, usage.ru_stime]
        .into_iter()
        .map(|time| {
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        })
        .sum()
}

fn ticks_per_second() -> u64 {
    // SAFETY: `sysconf` takes a number and returns one.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn from_ticks(ticks: u64, per_second: u64) -> Duration {
    Duration::from_micros(ticks.saturating_mul(1_000_000 / per_second))
}

/// User and system time of `/proc/<pid>/stat`: fields 14 and 15, counted after the name, which is in
/// parentheses and may itself contain blanks and parentheses.
fn process_times(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(from_ticks(user.checked_add(system)?, ticks_per_second))
}

fn machine_times(stat: &str, ticks_per_second: u64) -> Option<MachineTimes> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
    let mut field = || fields.next()?.ok();
    let (user, nice, system) = (field()?, field()?, field()?);
    let (idle, io_wait) = (field()?, field()?);
    let (interrupts, soft_interrupts) = (field()?, field()?);
    let steal = field().unwrap_or(0);
    // Guests' time, which follows, is already part of the user time.
    let busy = user + nice + system + interrupts + soft_interrupts;
    Some(MachineTimes {
        busy: from_ticks(busy, ticks_per_second),
        steal: from_ticks(steal, ticks_per_second),
        total: from_ticks(busy + steal + idle + io_wait, ticks_per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_cannot_shift_its_times() {
        let times = "S 1 2 3 0 -1 4194304 100 0 0 0 123 77 0 0 20 0 8 0 100 1000 10";
        for name in ["nats-server", "a b", "a) S 9 9 9 (b", ")"] {
            let stat = format!("4711 ({name}) {times}");
            assert_eq!(process_times(&stat, 100), Some(Duration::from_secs(2)), "{name}");
        }
        assert_eq!(process_times("4711 (x) S 1", 100), None);
        assert_eq!(process_times("", 100), None);
    }

    #[test]
    fn the_machine_is_busy_when_neither_idle_nor_stolen() {
        let times = machine_times("cpu  100 10 50 1000 40 5 5 30 9 9\ncpu0 1 2 3\n", 100).expect("a line");
        assert_eq!(times.busy, Duration::from_millis(1_700));
        assert_eq!(times.steal, Duration::from_millis(300));
        assert_eq!(times.total, Duration::from_millis(12_400));
        assert_eq!(machine_times("cpu0 1 2 3 4 5 6 7 8", 100), None);
    }

    #[test]
    fn others_are_what_is_left_of_the_busy_time() {
        let machine = |busy, steal, total| {
            Some(MachineTimes {
                busy: Duration::from_secs(busy),
                steal: Duration::from_secs(steal),
                total: Duration::from_secs(total),
            })
        };
        let before = CpuTimes {
            client: Duration::from_secs(1),
            servers: Duration::from_secs(1),
            machine: machine(10, 0, 100),
        };
        let after = CpuTimes {
            client: Duration::from_secs(5),
            servers: Duration::from_secs(4),
            machine: machine(19, 1, 120),
        };
        let used = after.since(&before);
        assert_eq!((used.client, used.servers), (Duration::from_secs(4), Duration::from_secs(3)));
        assert_eq!(used.others_share(), Some(0.1));
        assert_eq!(used.steal_share(), Some(0.05));
    }

    #[test]
    fn this_process_has_used_some_time_and_never_less_than_before() {
        let first = CpuTimes::sample(&[std::process::id()]);
        let mut sum = 0_u64;
        while CpuTimes::sample(&[]).client == first.client {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let second = CpuTimes::sample(&[std::process::id()]);
        assert!(second.client > first.client && second.servers >= first.servers);
    }
}
