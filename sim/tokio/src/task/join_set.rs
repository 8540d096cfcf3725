//! `tokio::task::JoinSet`: a set of tasks, joined in the order in which they end.

use super::{AbortHandle, Id, JoinError, JoinHandle, spawn, spawn_blocking};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Tasks that are aborted when the set drops.
pub struct JoinSet<T> {
    tasks: BTreeMap<u64, JoinHandle<T>>,
    spawned: u64,
    ended: Ended,
}

/// Who has ended, in order, and who waits for that.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<EndedState>>);

#[derive(Default)]
struct EndedState {
    keys: VecDeque<u64>,
    waker: Option<Waker>,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, EndedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Part of a task: reports its end, whether it returned, panicked or was aborted.
struct Report {
    key: u64,
    ended: Ended,
}

impl Drop for Report {
    fn drop(&mut self) {
        let mut state = self.ended.lock();
        state.keys.push_back(self.key);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> JoinSet<T> {
    /// No tasks.
    pub fn new() -> Self {
        JoinSet {
            tasks: BTreeMap::new(),
            spawned: 0,
            ended: Ended::default(),
        }
    }

    /// Tasks not yet joined.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether all have been joined.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

impl<T: 'static> JoinSet<T> {
    fn report(&mut self) -> Report {
        self.spawned += 1;
        Report {
            key: self.spawned,
            ended: self.ended.clone(),
        }
    }

    fn insert(&mut self, key: u64, task: JoinHandle<T>) -> AbortHandle {
        let abort = task.abort_handle();
        self.tasks.insert(key, task);
        abort
    }

    /// Spawns a task into the set.
    #[track_caller]
    pub fn spawn<F>(&mut self, task: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        let report = self.report();
        let key = report.key;
        let task = spawn(async move {
            let _report = report;
            task.await
        });
        self.insert(key, task)
    }

    /// Runs a closure as a task of the set.
    #[track_caller]
    pub fn spawn_blocking<F>(&mut self, f: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        let report = self.report();
        let key = report.key;
        let task = spawn_blocking(move || {
            let _report = report;
            f()
        });
        self.insert(key, task)
    }

    /// Waits for the next task to end; None when there are none.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// As [`JoinSet::join_next`], with the task's number.
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        poll_fn(|cx| self.poll_join_next_with_id(cx)).await
    }

    /// As [`JoinSet::join_next`], without waiting.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        match self.poll_join_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(joined) => joined,
            Poll::Pending => None,
        }
    }

    /// As [`JoinSet::join_next`].
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.poll_join_next_with_id(cx)
            .map(|joined| joined.map(|ended| ended.map(|(_, output)| output)))
    }

    /// As [`JoinSet::join_next_with_id`].
    pub fn poll_join_next_with_id(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(Id, T), JoinError>>> {
        if self.tasks.is_empty() {
            return Poll::Ready(None);
        }
        let key = {
            let mut state = self.ended.lock();
            let Some(key) = state.keys.front().copied() else {
                let old = state.waker.replace(cx.waker().clone());
                drop(state);
                drop(old);
                return Poll::Pending;
            };
            key
        };
        let Some(task) = self.tasks.get_mut(&key) else {
            // Detached meanwhile.
            self.ended.lock().keys.pop_front();
            return self.poll_join_next_with_id(cx);
        };
        let id = task.id();
        // The report drops inside the task, a moment before its handle is ready.
        match Pin::new(task).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => {
                self.ended.lock().keys.pop_front();
                self.tasks.remove(&key);
                Poll::Ready(Some(ended.map(|output| (id, output))))
            }
        }
    }

    /// Aborts all tasks and waits for them.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Waits for all tasks; goes on with the panic of one that panicked.
    pub async fn join_all(mut self) -> Vec<T> {
        let mut outputs = Vec::with_capacity(self.len());
        while let Some(ended) = self.join_next().await {
            match ended {
                Ok(output) => outputs.push(output),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => panic!("{error}"),
            }
        }
        outputs
    }

    /// Aborts all tasks; they still must be joined.
    pub fn abort_all(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }

    /// Lets all tasks run on without the set.
    pub fn detach_all(&mut self) {
        self.tasks.clear();
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    fn from_iter<I: IntoIterator<Item = F>>(tasks: I) -> Self {
        let mut set = JoinSet::new();
        for task in tasks {
            set.spawn(task);
        }
        set
    }
}
