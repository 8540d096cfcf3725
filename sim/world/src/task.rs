//! Tasks that belong to a machine, over madsim's executor, with tokio's semantics: a panic ends the task and reaches its
//! join handle, dropping a handle detaches, aborting drops the future at its next turn.
//!
//! Every task carries its *place*: the machine and the generation under which it was spawned. The place is set around
//! each poll and around the drop, so that whatever a task opens, even in a destructor that runs after its machine was
//! killed, is opened in the name of the process it belonged to.

use crate::trace::HostId;
use crate::world::{Shared, World, lock};
use pin_project_lite::pin_project;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

/// Where code runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) host: HostId,
    pub(crate) generation: u32,
}

impl Place {
    const MAIN: Place = Place {
        host: HostId::MAIN,
        generation: 0,
    };
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::MAIN) };
}

/// The place of the calling code.
#[inline]
pub(crate) fn place() -> Place {
    PLACE.get()
}

/// Sets the place until it drops.
struct At(Place);

impl At {
    #[inline]
    fn enter(place: Place) -> Self {
        At(PLACE.replace(place))
    }
}

impl Drop for At {
    #[inline]
    fn drop(&mut self) {
        PLACE.set(self.0);
    }
}

pin_project! {
    /// A future with a place, whose panics are caught and recorded.
    pub(crate) struct Guarded<F> {
        shared: Weak<Shared>,
        place: Place,
        #[pin]
        inner: Option<F>,
    }

    impl<F> PinnedDrop for Guarded<F> {
        fn drop(this: Pin<&mut Self>) {
            this.drop_inner();
        }
    }
}

type Panic = Box<dyn Any + Send>;

impl<F> Guarded<F> {
    pub(crate) fn new(shared: &Arc<Shared>, place: Place, future: F) -> Self {
        Guarded {
            shared: Arc::downgrade(shared),
            place,
            inner: Some(future),
        }
    }

    fn drop_inner(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.inner.is_none() {
            return;
        }
        let _at = At::enter(*this.place);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| this.inner.set(None))) {
            record(this.shared, *this.place, &panic);
        }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let inner = this.inner.as_pin_mut().expect("a task is not polled after its end");
        let at = At::enter(*this.place);
        let polled = catch_unwind(AssertUnwindSafe(|| inner.poll(cx)));
        drop(at);
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => {
                record(this.shared, *this.place, &panic);
                Err(panic)
            }
        };
        self.drop_inner();
        Poll::Ready(result)
    }
}

fn record(shared: &Weak<Shared>, place: Place, panic: &Panic) {
    if let Some(shared) = shared.upgrade() {
        shared.panicked(place.host, panic.as_ref());
    }
}

/// Spawns a task on the machine of the calling code, as `tokio::spawn` does. Panics outside of a world.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    World::with_current(|world| {
        let task = madsim::task::spawn(Guarded::new(world.shared(), place(), future));
        adopt(world.shared(), place(), task)
    })
}

/// Spawns a task on a machine.
#[track_caller]
pub(crate) fn spawn_at<F>(
    shared: &Arc<Shared>,
    node: madsim::task::NodeId,
    place: Place,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let node = madsim::runtime::Handle::current()
        .get_node(node)
        .expect("a machine keeps its node");
    adopt(shared, place, node.spawn(Guarded::new(shared, place, future)))
}

fn adopt<T>(shared: &Arc<Shared>, place: Place, task: madsim::task::JoinHandle<Result<T, Panic>>) -> JoinHandle<T> {
    if place.host == HostId::MAIN {
        shared.hosts.main_tasks().add(task.abort_handle());
    }
    JoinHandle {
        task,
        id: Id(shared.next_task_id()),
    }
}

/// The tasks of the main node, which is not killed at the end of a run: they are aborted instead.
#[derive(Default)]
pub(crate) struct MainTasks {
    handles: Mutex<Vec<madsim::task::AbortHandle>>,
}

impl MainTasks {
    fn add(&self, handle: madsim::task::AbortHandle) {
        let mut handles = lock(&self.handles);
        if handles.len() == handles.capacity() {
            // Only live ones are kept, before the list would grow: amortised constant work per task.
            handles.retain(|handle| !handle.is_finished());
        }
        handles.push(handle);
    }
}

/// Aborts what still runs on the main node.
pub(crate) fn abort_main_tasks(shared: &Shared) {
    let handles = std::mem::take(&mut *lock(&shared.hosts.main_tasks().handles));
    for handle in handles {
        handle.abort();
    }
}

/// Number of a task within its run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Waits for a task; dropping it lets the task run on. As tokio's.
pub struct JoinHandle<T> {
    task: madsim::task::JoinHandle<Result<T, Panic>>,
    id: Id,
}

impl<T> JoinHandle<T> {
    /// Has the task dropped at its next turn.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// A handle that can only abort.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle {
            task: self.task.abort_handle(),
            id: self.id,
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Its number.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        Pin::new(&mut self.task).poll(cx).map(|ended| match ended {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(panic)) => Err(JoinError {
                id,
                panic: Some(Mutex::new(panic)),
            }),
            Err(_) => Err(JoinError { id, panic: None }),
        })
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id.0)
            .finish_non_exhaustive()
    }
}

/// Aborts a task without waiting for it.
#[derive(Clone)]
pub struct AbortHandle {
    task: madsim::task::AbortHandle,
    id: Id,
}

impl AbortHandle {
    /// Has the task dropped at its next turn.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the task has ended or is about to be dropped.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// The task's number.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("id", &self.id.0)
            .finish_non_exhaustive()
    }
}

/// Why a task has no output: it panicked, or it was aborted or its machine died.
pub struct JoinError {
    id: Id,
    panic: Option<Mutex<Panic>>,
}

impl JoinError {
    /// Whether the task was dropped before its end.
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// The payload of the panic. Panics when there was none.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        self.try_into_panic().expect("`JoinError` reason is not a panic.")
    }

    /// The payload of the panic, or the error back when there was none.
    ///
    /// # Errors
    /// The error itself, when the task was cancelled.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, JoinError> {
        match self.panic {
            Some(panic) => Ok(panic.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
            None => Err(self),
        }
    }

    /// The task's number.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_panic() {
            true => write!(f, "task {} panicked", self.id),
            false => write!(f, "task {} was cancelled", self.id),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_panic() {
            true => write!(f, "JoinError::Panic({:?}, ...)", self.id),
            false => write!(f, "JoinError::Cancelled({:?})", self.id),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(if error.is_panic() {
            "task panicked"
        } else {
            "task was cancelled"
        })
    }
}

/// Which of `branches` a `select!` polls first: drawn from the seed in a world, the first one elsewhere.
pub fn first_of(branches: u32) -> u32 {
    World::try_with_current(|world| world.select_source().below(branches.into())).unwrap_or(0) as u32
}
