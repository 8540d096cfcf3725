//! `tokio::runtime`, as far as programs and tests name it. The executor is the world's; there is nothing to configure.
//!
//! A program of the simulated build is started by quench-worker as the program of a machine. A current-thread runtime,
//! which is what `#[tokio::test]` builds, may block by itself: its future runs on the main node of a small world of its
//! own, so that a test body means the same in both worlds.

use crate::task::JoinHandle;
use sim_world::{Seed, World, WorldConfig};
use std::future::Future;
use std::io;
use std::time::Duration;

/// The environment variable that gives such a world its seed.
const SEED_VARIABLE: &str = "QUENCH_SEED";

/// The kinds of runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeFlavor {
    /// One thread.
    CurrentThread,
    /// Several threads.
    MultiThread,
}

/// Builds a runtime; settings of threads have no effect.
#[derive(Debug)]
pub struct Builder {
    flavor: RuntimeFlavor,
}

impl Builder {
    /// One thread.
    pub fn new_current_thread() -> Builder {
        Builder {
            flavor: RuntimeFlavor::CurrentThread,
        }
    }

    /// Several threads, of which the simulator has one.
    pub fn new_multi_thread() -> Builder {
        Builder {
            flavor: RuntimeFlavor::MultiThread,
        }
    }

    /// Everything is always on.
    pub fn enable_all(&mut self) -> &mut Self {
        self
    }

    /// Everything is always on.
    pub fn enable_io(&mut self) -> &mut Self {
        self
    }

    /// Everything is always on.
    pub fn enable_time(&mut self) -> &mut Self {
        self
    }

    /// No effect.
    pub fn worker_threads(&mut self, _: usize) -> &mut Self {
        self
    }

    /// No effect.
    pub fn max_blocking_threads(&mut self, _: usize) -> &mut Self {
        self
    }

    /// No effect.
    pub fn thread_stack_size(&mut self, _: usize) -> &mut Self {
        self
    }

    /// No effect.
    pub fn thread_name(&mut self, _: impl Into<String>) -> &mut Self {
        self
    }

    /// The runtime.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn build(&mut self) -> io::Result<Runtime> {
        Ok(Runtime {
            handle: Handle { flavor: self.flavor },
        })
    }
}

/// A runtime.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
}

impl Runtime {
    /// A runtime of several threads.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn new() -> io::Result<Runtime> {
        Builder::new_multi_thread().build()
    }

    /// Runs a future to its end: see the module for who may.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(
            World::try_current().is_none(),
            "Cannot start a runtime from within a runtime: a simulated world runs on this thread."
        );
        assert!(
            self.handle.flavor == RuntimeFlavor::CurrentThread,
            "this program was built for the simulated world (--cfg madsim), where programs are started by quench-worker as the programs of \
             simulated machines; build it without --cfg madsim to run it by itself"
        );
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text.parse().unwrap_or_else(|error| panic!("{SEED_VARIABLE}: {error}")),
            Err(_) => Seed(1),
        };
        let config = WorldConfig {
            tolerate_panics: true,
            ..WorldConfig::default()
        };
        match World::run(seed, config, |_| future) {
            Ok((output, _)) => output,
            Err(error) => panic!("{error}"),
        }
    }

    /// Spawns a task in the world that runs.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs a closure as a task.
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle.spawn_blocking(f)
    }

    /// Its handle.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// No effect.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// No effect.
    pub fn shutdown_timeout(self, _: Duration) {}

    /// No effect.
    pub fn shutdown_background(self) {}
}

/// No runtime runs on this thread.
#[derive(Debug)]
pub struct TryCurrentError(());

impl std::fmt::Display for TryCurrentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is no reactor running, must be called from the context of a Tokio 1.x runtime")
    }
}

impl std::error::Error for TryCurrentError {}

/// A handle to the runtime.
#[derive(Clone, Debug)]
pub struct Handle {
    flavor: RuntimeFlavor,
}

impl Handle {
    /// The handle of the world that runs on this thread.
    #[track_caller]
    pub fn current() -> Handle {
        Handle::try_current().expect("must be called from the context of a Tokio 1.x runtime")
    }

    /// As [`Handle::current`].
    ///
    /// # Errors
    /// Outside of a world.
    pub fn try_current() -> Result<Handle, TryCurrentError> {
        World::try_current()
            .map(|_| Handle {
                flavor: RuntimeFlavor::MultiThread,
            })
            .ok_or(TryCurrentError(()))
    }

    /// Spawns a task.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::task::spawn(future)
    }

    /// Runs a closure as a task.
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        crate::task::spawn_blocking(f)
    }

    /// The kind of runtime.
    pub fn runtime_flavor(&self) -> RuntimeFlavor {
        self.flavor
    }

    /// No effect.
    pub fn enter(&self) -> EnterGuard<'_> {
        EnterGuard { _handle: self }
    }
}

/// No effect.
#[derive(Debug)]
pub struct EnterGuard<'a> {
    _handle: &'a Handle,
}
