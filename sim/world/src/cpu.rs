//! The CPU time that the process has really used: for reports of cost, never for a decision and never in a trace.

/// Microseconds of CPU time, user and system, that this process has used so far.
///
/// Asked from the kernel directly: under `--cfg madsim`, libc's clocks are the simulated ones.
pub fn cpu_time_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the address given, which is that of a live local variable.
    let failed = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "every Linux kernel has a clock of process CPU time");
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let start_us = cpu_time_us();
        let mut rounds = 0u64;
        while cpu_time_us() == start_us && rounds < 1 << 32 {
            rounds += 1;
        }
        assert!(cpu_time_us() > start_us);
    }
}
