//! Runs the tasks of all nodes, each as far as it can go, in an order that depends on
//! nothing else.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

/// Something that a node does.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that are to start, each with its node.
#[derive(Clone, Default)]
pub struct Spawn(Arc<Mutex<Vec<(usize, Task)>>>);

impl Spawn {
    /// Starts a task.
    pub fn start(&self, node: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().push((node, Box::pin(task)));
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawn")
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Running {
    node: usize,
    task: Task,
    woken: Arc<Flag>,
    waker: Waker,
}

/// All tasks that run.
#[derive(Default)]
pub(crate) struct Executor {
    running: Vec<Running>,
    pub(crate) spawn: Spawn,
}

impl Executor {
    /// Polls whatever can go on.
    pub(crate) fn poll(&mut self) {
        loop {
            let started: Vec<_> = self.spawn.0.lock().drain(..).collect();
            let mut any = !started.is_empty();
            self.running.extend(started.into_iter().map(running));
            let mut at = 0;
            while at < self.running.len() {
                let running = &mut self.running[at];
                if running.woken.0.swap(false, Ordering::Relaxed) {
                    any = true;
                    let mut context = Context::from_waker(&running.waker);
                    if running.task.as_mut().poll(&mut context).is_ready() {
                        drop(self.running.swap_remove(at));
                        continue;
                    }
                }
                at += 1;
            }
            if !any {
                return;
            }
        }
    }

    /// Ends all that a node was doing.
    pub(crate) fn end(&mut self, node: usize) {
        self.running.retain(|running| running.node != node);
        self.spawn.0.lock().retain(|(at, _)| *at != node);
    }
}

fn running((node, task): (usize, Task)) -> Running {
    let woken = Arc::new(Flag(AtomicBool::new(true)));
    Running {
        node,
        task,
        waker: Waker::from(Arc::clone(&woken)),
        woken,
    }
}
