//! Who used the processors: this process, the database's processes where they run on this machine, and everybody. Read
//! from the kernel, before and after; nothing here decides anything.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::fcntl::readlink;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::fs;

/// What `/proc` counts processor time in, on every Linux: hundredths of a second.
const TICKS_PER_S: u64 = 100;

/// The database's processes, as far as they are on this machine.
#[derive(Clone, Debug)]
pub enum Servers {
    /// These.
    Known(Vec<u32>),
    /// They are not known, and why not.
    Unknown(String),
}

/// Processor time until some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of this process.
    pub own: Duration,
    /// Of the database's processes; `None` where they are not known, or gone.
    pub servers: Option<Duration>,
    /// Of everybody on this machine, and what there was to have.
    pub machine: Option<Machine>,
}

/// The processors of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Time in which one of them worked, for whomever.
    pub busy: Duration,
    /// Time in which one of them did not.
    pub idle: Duration,
    /// How many there are.
    pub cores: u32,
}

impl Usage {
    /// Until now.
    pub async fn now(servers: &Servers) -> Self {
        Self {
            own: own(),
            servers: match servers {
                Servers::Known(processes) => all(processes).await,
                Servers::Unknown(_) => None,
            },
            machine: machine().await,
        }
    }

    /// What was used since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let both = |a: Option<Duration>, b: Option<Duration>| Some(a?.saturating_sub(b?));
        Self {
            own: self.own.saturating_sub(before.own),
            servers: both(self.servers, before.servers),
            machine: self.machine.zip(before.machine).map(|(after, before)| Machine {
                busy: after.busy.saturating_sub(before.busy),
                idle: after.idle.saturating_sub(before.idle),
                cores: after.cores,
            }),
        }
    }

    /// Both together; what is not known of one is not known of both.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            own: self.own + other.own,
            servers: self.servers.zip(other.servers).map(|(a, b)| a + b),
            machine: self.machine.zip(other.machine).map(|(a, b)| Machine {
                busy: a.busy + b.busy,
                idle: a.idle + b.idle,
                cores: a.cores,
            }),
        }
    }
}

fn own() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let of = |time: nix::sys::time::TimeVal| {
        let us = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(us).unwrap_or_default())
    };
    of(usage.user_time()) + of(usage.system_time())
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1_000 / TICKS_PER_S)
}

async fn all(processes: &[u32]) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).await.ok()?;
        sum += process_time(&stat)?;
    }
    Some(sum)
}

/// User and system time of a `/proc/PID/stat`. The name in it may hold anything, brackets too.
fn process_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(ticks(next()? + next()?))
}

async fn machine() -> Option<Machine> {
    machine_time(&fs::read_to_string("/proc/stat").await.ok()?)
}

/// The first line of `/proc/stat` has them together, then one line each. Guests are in the first two already.
fn machine_time(stat: &str) -> Option<Machine> {
    let mut lines = stat.lines();
    let numbers: Vec<u64> = lines
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .take(8)
        .map_while(|number| number.parse().ok())
        .collect();
    let [user, nice, system, idle, waiting, hard, soft, stolen] = numbers[..] else {
        return None;
    };
    let cores = lines.take_while(|line| line.starts_with("cpu")).count();
    Some(Machine {
        busy: ticks(user + nice + system + hard + soft + stolen),
        idle: ticks(idle + waiting),
        cores: u32::try_from(cores).ok()?,
    })
}

/// The processes that listen where the database's nodes are. Only those of this machine can be found, and only with
/// the right to look at them.
pub async fn find_servers(nodes: &[SocketAddr]) -> Servers {
    if nodes.is_empty() || nodes.iter().any(|node| !node.ip().is_loopback()) {
        return Servers::Unknown("not on this machine, as far as its addresses say".to_owned());
    }
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).await.unwrap_or_default();
        sockets.extend(table.lines().filter_map(|line| listener(line, nodes)));
    }
    let owners = owners(&sockets).await;
    if owners.is_empty() {
        let text = "the process that listens there cannot be seen; name it with --server-pid";
        return Servers::Unknown(text.to_owned());
    }
    Servers::Known(owners)
}

/// The socket of a line of `/proc/net/tcp`, if it listens at one of these addresses.
fn listener(line: &str, nodes: &[SocketAddr]) -> Option<u64> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if *fields.get(3)? != LISTENS {
        return None;
    }
    // IPv4 as one number in the machine's order; of IPv6 the port must do.
    let at = u32::from_str_radix(address, 16)
        .ok()
        .map(|number| IpAddr::from(number.to_ne_bytes()));
    let here = |node: &&SocketAddr| node.port() == port && at.is_none_or(|at| at == node.ip() || at.is_unspecified());
    nodes.iter().find(here)?;
    fields.get(9)?.parse().ok()
}

/// The processes that have one of these sockets open.
async fn owners(sockets: &BTreeSet<u64>) -> Vec<u32> {
    let mut found = Vec::new();
    let Ok(mut processes) = fs::read_dir("/proc").await else {
        return found;
    };
    while let Ok(Some(entry)) = processes.next_entry().await {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if open_sockets(process)
            .await
            .iter()
            .any(|socket| sockets.contains(socket))
        {
            found.push(process);
        }
    }
    found
}

/// The sockets that a process has open; of this one, with `self`'s number.
pub async fn open_sockets(process: u32) -> BTreeSet<u64> {
    let mut sockets = BTreeSet::new();
    // One that ended, or that we may not look at, has none.
    let Ok(mut files) = fs::read_dir(format!("/proc/{process}/fd")).await else {
        return sockets;
    };
    while let Ok(Some(file)) = files.next_entry().await {
        let link = readlink(&file.path()).ok().and_then(|link| link.into_string().ok());
        let number: Option<u64> = link.and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        sockets.extend(number);
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_found_behind_a_name_with_brackets() {
        let stat = "77 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(process_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(process_time("77 (a"), None);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  100 0 50 700 100 5 5 40 0 0\ncpu0 1 2\ncpu1 1 2\nintr 7\n";
        let machine = machine_time(stat).expect("is in shape");
        assert_eq!(
            (machine.busy, machine.idle, machine.cores),
            (Duration::from_secs(2), Duration::from_secs(8), 2)
        );
    }

    #[test]
    fn a_listener_is_found_by_its_address_and_port() {
        let line = "   0: 0100007F:23B6 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4242 1 0";
        let node = |text: &str| [text.parse().expect("an address")];
        assert_eq!(listener(line, &node("127.0.0.1:9142")), Some(4_242));
        assert_eq!(listener(line, &node("127.0.0.1:9042")), None, "another port");
        assert_eq!(listener(line, &node("127.0.0.2:9142")), None, "another address");
        assert_eq!(
            listener(&line.replace(" 0A ", " 01 "), &node("127.0.0.1:9142")),
            None,
            "a connection"
        );
        assert_eq!(
            listener(&line.replace("0100007F", "00000000"), &node("127.0.0.2:9142")),
            Some(4_242),
            "anywhere"
        );
    }
}
