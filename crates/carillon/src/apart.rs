//! Threads of their own for the API and the control socket: a long list that is put together there delays no call. And one for those
//! who watch the node: such a list does not make it look dead.
//!
//! In: what serves requests. Out: the same, on other threads. Elsewhere: what is served (`node`, `control`), and the threads
//! of signalling (`main`).

use std::future::Future;
use std::io;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Threads beside those of signalling, one for each core. Dropped, they take no new work, and what they do is not waited for.
pub(crate) struct Apart(Option<Runtime>);

impl Apart {
    /// Starts them.
    pub(crate) fn start() -> io::Result<Self> {
        Builder::new_multi_thread().thread_name("api").enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Starts one thread, for those who watch the node.
    pub(crate) fn watcher() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("watch").enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Begins work there. Sockets that it makes or accepts belong to these threads, too.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone()).spawn(work)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_apart_is_done_while_it_holds_its_thread() {
        let apart = Apart::start().unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = oneshot::channel();
        let busy = apart.spawn(async move {
            tell.send(thread::current().name().map(str::to_owned)).unwrap();
            wait.recv().unwrap();
        });
        // This test has one thread: it goes on only because the other one waits elsewhere.
        assert_eq!(told.await.unwrap().as_deref(), Some("api"));
        go.send(()).unwrap();
        busy.await.unwrap();
        drop(apart);
    }
}
