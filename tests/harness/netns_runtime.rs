//! A thread in a host's network, on which connections are opened and servers listen.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::host::Host;

/// Runs futures in the network of a host, all on one thread; they end when it is dropped.
///
/// A socket belongs to the network that its thread was in when it was made, so this is how a test's own clients and
/// servers get onto a host.
pub struct NetnsRuntime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NetnsRuntime {
    /// In the network of `host`.
    pub fn of(host: &Host) -> NetnsRuntime {
        NetnsRuntime::start(Some(host.network()))
    }

    /// In the network of the caller.
    pub fn here() -> NetnsRuntime {
        NetnsRuntime::start(None)
    }

    fn start(network: Option<File>) -> NetnsRuntime {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            if let Some(network) = network {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("the network");
            }
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            started.send(runtime.handle().clone()).expect("somebody waits for it");
            // The other end is dropped when it is to stop.
            runtime.block_on(stopped).ok();
        });
        let handle = handle.recv().expect("the thread starts");
        NetnsRuntime { handle, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Runs a future to its end and returns what it gave.
    #[track_caller]
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.handle.spawn(async move {
            // Nobody waits any more when the test has panicked.
            done.send(future.await).ok();
        });
        result.recv().expect("the future panicked")
    }
}

impl Drop for NetnsRuntime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
