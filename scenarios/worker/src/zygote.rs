//! The pristine process. For each line it forks **first** and gives the child the line afterwards, so that every child
//! starts from the same bytes whatever the line is and however many came before. Hence its one rule: after `serve` has
//! begun, this process allocates nothing, starts no thread and draws no random number. It understands nothing of what it
//! forwards; a child says in a fixed [`Header`] how long it may take.
//!
//! One line is one child; its answer is forwarded as it comes. A child that outlives its limit is killed, and for a child
//! that ends without a whole answer the zygote writes one itself.
use crate::child;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork, pipe, read, write};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes moved at a time; as much as a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a child may take to read and understand its job, ms. Generous: the machine may be swapping.
const READ_LIMIT_MS: u64 = 60_000;

/// What a child says before its answer, in native byte order: job id, wall-clock limit in ms.
#[derive(Clone, Copy)]
pub struct Header {
    /// The job's id.
    pub id: u64,
    /// The job's limit, ms from the fork.
    pub limit_ms: u64,
}

impl Header {
    /// Bytes on the pipe.
    pub const BYTES: usize = 16;

    /// As it goes over the pipe.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.id.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.limit_ms.to_ne_bytes());
        bytes
    }

    fn decode(bytes: [u8; Self::BYTES]) -> Header {
        let (id, limit_ms) = bytes.split_at(8);
        let number = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
        Header {
            id: number(id),
            limit_ms: number(limit_ms),
        }
    }
}

/// How a child was seen to end.
enum End {
    Answered,
    Hung {
        limit_ms: u64,
    },
    Signal(i32),
    Exit(i32),
    /// Nobody listens to the answers any more.
    Abandoned,
}

/// Serves lines until standard input ends. Returns the process's exit code.
pub fn serve() -> std::process::ExitCode {
    match serve_lines(std::io::stdin().as_fd(), std::io::stdout().as_fd()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(errno) => {
            eprintln!("quench-worker: cannot fork or talk to its children: {errno}");
            std::process::ExitCode::from(1)
        }
    }
}

fn serve_lines(input: BorrowedFd, output: BorrowedFd) -> Result<(), Errno> {
    let mut lines = Lines {
        buffer: [0; CHUNK_BYTES],
        start: 0,
        end: 0,
    };
    loop {
        let (job_reads, job_writes) = pipe()?;
        let (answer_reads, answer_writes) = pipe()?;
        // SAFETY: this process has one thread, so the child may do whatever a process may do.
        let forked = unsafe { fork() }?;
        let ForkResult::Parent { child } = forked else {
            drop((job_writes, answer_reads));
            child::run(job_reads, answer_writes)
        };
        drop((job_reads, answer_writes));
        if !lines.forward_one(input, job_writes)? {
            // The spare child reads an empty job and leaves.
            waitpid(child, None)?;
            return Ok(());
        }
        let mut relay = Relay {
            output,
            header: [0; Header::BYTES],
            got: 0,
            forwarded: false,
            last: b'\n',
        };
        let end = relay.until_end(child, &answer_reads)?;
        if matches!(end, End::Abandoned) {
            return Ok(());
        }
        relay.finish(end)?;
    }
}

/// Standard input, cut into lines without looking into them.
struct Lines {
    buffer: [u8; CHUNK_BYTES],
    start: usize,
    end: usize,
}

impl Lines {
    /// Moves one line to `to` and closes it. False at the end of the input.
    fn forward_one(&mut self, input: BorrowedFd, to: OwnedFd) -> Result<bool, Errno> {
        let mut some = false;
        // A child that died early does not stop the line from being consumed.
        let mut listening = true;
        loop {
            if self.start == self.end {
                self.start = 0;
                self.end = retry(|| read(input, &mut self.buffer))?;
                if self.end == 0 {
                    return Ok(some);
                }
            }
            let ready = &self.buffer[self.start..self.end];
            let newline = ready.iter().position(|byte| *byte == b'\n');
            let part = newline.map_or(ready.len(), |at| at + 1);
            listening = listening && write_all(to.as_fd(), &ready[..part]).is_ok();
            self.start += part;
            some = true;
            if newline.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Forwards one child's answer.
struct Relay<'a> {
    output: BorrowedFd<'a>,
    header: [u8; Header::BYTES],
    /// Bytes of the header that have come.
    got: usize,
    forwarded: bool,
    last: u8,
}

impl Relay<'_> {
    /// Until the child has ended, one way or the other, and is reaped.
    fn until_end(&mut self, child: Pid, answers: &OwnedFd) -> Result<End, Errno> {
        let began_ms = now_ms()?;
        let mut buffer = [0; CHUNK_BYTES];
        loop {
            let limit_ms = if self.got == Header::BYTES {
                self.header().limit_ms
            } else {
                READ_LIMIT_MS
            };
            let left_ms = limit_ms.saturating_sub(now_ms()?.saturating_sub(began_ms));
            if left_ms == 0 {
                kill_and_reap(child)?;
                return Ok(End::Hung { limit_ms });
            }
            let (readable, abandoned) = self.wait(answers, left_ms)?;
            if abandoned {
                kill_and_reap(child)?;
                return Ok(End::Abandoned);
            }
            if !readable {
                continue;
            }
            let n = retry(|| read(answers, &mut buffer))?;
            if n == 0 {
                return self.reaped(retry(|| waitpid(child, None))?);
            }
            self.take(&buffer[..n])?;
        }
    }

    /// Waits for bytes from the child, or for our own reader to go away.
    fn wait(&self, answers: &OwnedFd, left_ms: u64) -> Result<(bool, bool), Errno> {
        let mut fds = [
            PollFd::new(answers.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.output, PollFlags::empty()),
        ];
        // A poll lasts at most half a minute at a time; the caller asks again until the limit.
        let timeout = PollTimeout::from(u16::try_from(left_ms.min(30_000)).unwrap_or(30_000));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let any = |fd: &PollFd, flags: PollFlags| fd.revents().is_some_and(|seen| seen.intersects(flags));
        Ok((
            any(&fds[0], PollFlags::POLLIN | PollFlags::POLLHUP),
            any(&fds[1], PollFlags::POLLERR),
        ))
    }

    fn header(&self) -> Header {
        Header::decode(self.header)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        let missing = (Header::BYTES - self.got).min(bytes.len());
        self.header[self.got..self.got + missing].copy_from_slice(&bytes[..missing]);
        self.got += missing;
        bytes = &bytes[missing..];
        if let Some(last) = bytes.last() {
            self.last = *last;
            self.forwarded = true;
            write_all(self.output, bytes)?;
        }
        Ok(())
    }

    fn reaped(&self, status: WaitStatus) -> Result<End, Errno> {
        let whole = self.forwarded && self.last == b'\n';
        Ok(match status {
            WaitStatus::Signaled(_, signal, _) => End::Signal(signal as i32),
            WaitStatus::Exited(_, code) if code != 0 || !whole => End::Exit(code),
            _ => End::Answered,
        })
    }

    /// Writes the answer that the child owes. The shape is that of `FromWorker::Failed`; a test holds the two together.
    fn finish(&mut self, end: End) -> Result<(), Errno> {
        let id = if self.got == Header::BYTES { self.header().id } else { 0 };
        let (how, what, number) = match end {
            End::Answered | End::Abandoned => return Ok(()),
            End::Hung { limit_ms } => ("hung", "limit_ms", i64::try_from(limit_ms).unwrap_or(i64::MAX)),
            End::Signal(signal) => ("signal", "signal", signal.into()),
            End::Exit(code) => ("exit", "code", code.into()),
        };
        if self.last != b'\n' {
            write_all(self.output, b"\n")?;
        }
        let mut line = [0; 256];
        let mut rest = &mut line[..];
        // A fixed buffer instead of a string: no allocation here. It holds the longest such line with room to spare.
        let _ = writeln!(
            rest,
            r#"{{"type":"failed","id":{id},"failed":{{"how":"{how}","{what}":{number}}}}}"#
        );
        let left = rest.len();
        write_all(self.output, &line[..line.len() - left])
    }
}

fn kill_and_reap(child: Pid) -> Result<(), Errno> {
    match kill(child, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno),
    }
    retry(|| waitpid(child, None)).map(drop)
}

fn now_ms() -> Result<u64, Errno> {
    let now: TimeSpec = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let ms = now
        .tv_sec()
        .saturating_mul(1_000)
        .saturating_add(now.tv_nsec() / 1_000_000);
    Ok(u64::try_from(ms).unwrap_or(0))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Writes all of it.
pub fn write_all(to: BorrowedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = retry(|| write(to, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}
