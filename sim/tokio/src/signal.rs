//! `tokio::signal`: a machine's program is asked to stop by `sim_world::Host::interrupt`.

use std::io;

/// Completes when the program is asked to stop.
///
/// # Errors
/// None in the simulator.
pub async fn ctrl_c() -> io::Result<()> {
    sim_world::interrupted().await;
    Ok(())
}

/// Signals by number.
pub mod unix {
    use std::io;

    /// A kind of signal.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct SignalKind(i32);

    impl SignalKind {
        /// SIGINT.
        pub const fn interrupt() -> Self {
            SignalKind(2)
        }

        /// SIGTERM.
        pub const fn terminate() -> Self {
            SignalKind(15)
        }

        /// SIGHUP, which never comes.
        pub const fn hangup() -> Self {
            SignalKind(1)
        }

        /// Its number.
        pub const fn as_raw_value(&self) -> i32 {
            self.0
        }
    }

    /// A stream of signals of one kind.
    #[derive(Debug)]
    pub struct Signal {
        kind: SignalKind,
    }

    /// Listens for a kind of signal.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn signal(kind: SignalKind) -> io::Result<Signal> {
        Ok(Signal { kind })
    }

    impl Signal {
        /// Waits for the next signal. Requests to stop come as SIGINT and as SIGTERM; nothing else ever comes.
        pub async fn recv(&mut self) -> Option<()> {
            if self.kind == SignalKind::hangup() {
                std::future::pending::<()>().await;
            }
            sim_world::interrupted().await;
            Some(())
        }
    }
}
