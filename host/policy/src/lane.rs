//! Where calls go on that take long: threads of their own, at a low priority. A guest that
//! computes for milliseconds then takes none of the time of the threads that serve, and all
//! such guests together take what these leave of a core.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

/// Their priority: beside a thread that serves, about one part in ten. With the lowest one a
/// call of 20 ms does not end within a second where all cores are in use.
const NICE: i32 = 10;
/// So often in a second a policy's calls may outlive their first ticks on a thread that serves, or
/// cost it an instance.
const COSTLY: u64 = 3;
/// How long a call may take at least, and so many times the CPU time that it may use.
const PATIENCE: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;
/// But at most so much longer than that CPU time.
const LONGEST: Duration = Duration::from_secs(5);
/// So many calls of a policy are in the lane for each of its turns; others fail at once.
const QUEUE: usize = 128;

thread_local! {
    /// The call that is polled on this thread.
    static TURN: Cell<Turn> = const { Cell::new(Turn::here(Duration::ZERO)) };
}

/// One poll of a call.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// On a thread of the lane.
    aside: bool,
    /// What the call had used before, as far as that is known.
    before: Duration,
    /// The CPU time of this thread since when its use is known. To ask for that is a system
    /// call: on a thread that serves only calls that the clock meets are measured.
    since: Option<Duration>,
    /// The clock has ended it.
    met: bool,
    /// And it had computed for long by then.
    overran: bool,
}

impl Turn {
    const fn here(before: Duration) -> Self {
        Self {
            aside: false,
            before,
            since: None,
            met: false,
            overran: false,
        }
    }

    fn aside(before: Duration) -> Self {
        Self {
            aside: true,
            since: Some(cpu_time()),
            ..Self::here(before)
        }
    }

    fn used(&self) -> Duration {
        let more = self.since.map(|since| cpu_time().saturating_sub(since));
        self.before + more.unwrap_or_default()
    }

    /// Polls a call in this turn; the turn afterwards.
    fn poll<T>(
        self,
        call: Pin<&mut impl Future<Output = T>>,
        context: &mut Context<'_>,
    ) -> (Self, Poll<T>) {
        // Restored: a call may be polled within another one.
        let outer = TURN.replace(self);
        let polled = call.poll(context);
        (TURN.replace(outer), polled)
    }
}

/// The CPU time that the call which is being polled has used, as far as that is known.
pub(crate) fn used() -> Duration {
    TURN.get().used()
}

/// Is it polled on a thread of the lane?
pub(crate) fn is_aside() -> bool {
    TURN.get().aside
}

/// The clock has met the call that is being polled: what it has used. Measured from here on,
/// if it was not before.
pub(crate) fn met() -> Duration {
    let mut turn = TURN.get();
    if turn.since.is_none() {
        turn.since = Some(cpu_time());
        TURN.set(turn);
    }
    turn.used()
}

/// The call that is being polled lets others have their turn; `overran`: it has computed for
/// long.
pub(crate) fn yields(overran: bool) {
    TURN.set(Turn {
        met: true,
        overran,
        ..TURN.get()
    });
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    // By the C library, as valgrind wants it. Every Linux has this clock.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

/// The threads; one fewer than there are cores, but one at least.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Present until it is dropped.
    runtime: Option<Runtime>,
    threads: usize,
}

/// Why a call did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// Its turns did not come in time, or too many wait for theirs.
    Late,
    /// It had not begun when its policy's calls were given up: [`Pace::spare`].
    Spared,
}

/// How often the calls of one policy take long, and how many of them go on at once.
#[derive(Debug)]
pub(crate) struct Pace {
    made: Instant,
    turns: Semaphore,
    room: Semaphore,
    /// Word that those which wait for their first turn are given up.
    spared: Notify,
    /// The second since `made`, times 256, and how often they did in it.
    costly: AtomicU64,
    /// Until when they begin in the lane, in milliseconds since `made`.
    slow_until: AtomicU64,
}

impl Lane {
    /// # Errors
    /// When no thread can be made.
    pub(crate) fn new() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("weir-slow-calls")
            .on_thread_start(|| {
                if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                    tracing::warn!(%error, "calls that take long run at the priority of requests");
                }
            })
            .enable_time()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            threads,
        })
    }

    pub(crate) fn pace(&self) -> Arc<Pace> {
        Arc::new(Pace {
            made: Instant::now(),
            turns: Semaphore::new(self.threads),
            room: Semaphore::new(self.threads * QUEUE),
            spared: Notify::new(),
            costly: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
        })
    }

    /// Does work of a guest that no request waits for. `None` when the lane is gone.
    pub(crate) async fn load<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.spawn(&self.pace(), Duration::ZERO, Box::pin(work))?
            .ended()
            .await
    }

    /// Runs a call that may use `cpu` of CPU time: here for its first ticks, unless the policy's
    /// calls took long of late, and then in the lane. `may_spare` is asked when the policy's calls
    /// are [spared](Pace::spare) before this one has begun: need it be made?
    ///
    /// A call that was given up goes on to its end when it had a turn: an instance that it makes
    /// is there for the next one.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        pace: &Arc<Pace>,
        cpu: Duration,
        may_spare: impl Fn() -> bool,
        mut call: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Result<T, NoTurn> {
        let mut used = Duration::ZERO;
        let begins_here = !pace.is_slow();
        if begins_here {
            let ended = poll_fn(|context| {
                let (turn, polled) = Turn::here(used).poll(call.as_mut(), context);
                match polled {
                    Poll::Ready(value) => return Poll::Ready(Some(value)),
                    Poll::Pending => used = turn.used(),
                }
                match turn.overran {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                }
            });
            if let Some(value) = ended.await {
                return Ok(value);
            }
            pace.costly();
        }
        let _room = pace.room.try_acquire().map_err(|_| NoTurn::Late)?;
        // Told from here on, also before it is polled.
        let spared = pace.spared.notified();
        let task = self.spawn(pace, used, call).ok_or(NoTurn::Late)?;
        let (begun, ended) = (Arc::clone(&task.goes_on), task.ended());
        let spared = async {
            spared.await;
            if begins_here || begun.load(Relaxed) || !may_spare() {
                std::future::pending::<()>().await;
            }
        };
        let patience = (PATIENCE + cpu * SHARE).min(LONGEST + cpu);
        tokio::select! {
            ended = tokio::time::timeout(patience, ended) => {
                ended.ok().flatten().ok_or(NoTurn::Late)
            }
            () = spared => Err(NoTurn::Spared),
        }
    }

    fn spawn<T: Send + 'static>(
        &self,
        pace: &Arc<Pace>,
        used: Duration,
        call: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Option<Task<T>> {
        let runtime = self.runtime.as_ref()?;
        let begun = Arc::new(AtomicBool::new(false));
        let aside = aside(Arc::clone(pace), used, call, Arc::clone(&begun));
        Some(Task {
            handle: runtime.spawn(aside),
            goes_on: begun,
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // The last policy may end on one of these threads, which must not wait for themselves.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Work elsewhere. It ends with who waits for it, unless it is to go on.
pub(crate) struct Task<T> {
    handle: JoinHandle<T>,
    goes_on: Arc<AtomicBool>,
}

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(there: &Handle, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            handle: there.spawn(work),
            goes_on: Arc::default(),
        }
    }

    /// `None` when the runtime is gone. A panic goes on here.
    pub(crate) async fn ended(mut self) -> Option<T> {
        match (&mut self.handle).await {
            Ok(value) => Some(value),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.goes_on.load(Relaxed) {
            self.handle.abort();
        }
    }
}

/// Goes on with a call whenever its policy has a turn; while it waits, others have it.
async fn aside<T>(
    pace: Arc<Pace>,
    mut used: Duration,
    mut call: Pin<Box<impl Future<Output = T> + Send>>,
    begun: Arc<AtomicBool>,
) -> T {
    let mut long = !used.is_zero();
    loop {
        // Never closed.
        let turn = pace.turns.acquire().await;
        begun.store(true, Relaxed);
        let ended = poll_fn(|context| {
            let (turn, polled) = Turn::aside(used).poll(call.as_mut(), context);
            used = turn.used();
            if turn.overran && !std::mem::replace(&mut long, true) {
                pace.costly();
            }
            match polled {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                // It wakes itself.
                Poll::Pending if turn.met => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        });
        if let Some(value) = ended.await {
            return value;
        }
        drop(turn);
        // What the call waits for wakes this task.
        let mut waited = false;
        poll_fn(|_| match std::mem::replace(&mut waited, true) {
            false => Poll::Pending,
            true => Poll::Ready(()),
        })
        .await;
    }
}

impl Pace {
    /// Do its calls begin in the lane?
    fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Relaxed);
        until > 0 && self.now() < until
    }

    /// Counts a call that outlived its first ticks, or cost an instance: to make another one takes
    /// longer than a hit. With too many of them in a second all calls begin in the lane, for a
    /// second.
    pub(crate) fn costly(&self) {
        let now = self.now();
        let second = now / 1_000;
        let count = |before: u64| match before >> 8 == second {
            true => before.saturating_add(u64::from(before & 255 < 255)),
            false => second << 8 | 1,
        };
        let before = self
            .costly
            .fetch_update(Relaxed, Relaxed, |n| Some(count(n)));
        if count(before.unwrap_or_else(|n| n)) & 255 > COSTLY {
            self.slow_until.store(now + 1_000, Relaxed);
        }
    }

    /// Has the calls that wait in the lane and have not begun given up, of those that may be: what
    /// waits while a policy fails would go on to fail for long after it is known.
    pub(crate) fn spare(&self) {
        self.spared.notify_waiters();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a thread that serves nobody")]
mod tests {
    use super::*;

    const CPU: Duration = Duration::from_millis(20);

    /// Where it is polled: the thread's name, its priority, and whether it knows.
    fn place() -> (Option<String>, i32, bool) {
        (
            std::thread::current().name().map(str::to_owned),
            rustix::process::getpriority_process(None).unwrap(),
            is_aside(),
        )
    }

    fn in_the_lane() -> (Option<String>, i32, bool) {
        (Some("weir-slow-calls".to_owned()), NICE, true)
    }

    /// A call that is interrupted so many times, and says where it was polled.
    async fn interrupted(mut times: usize) -> Vec<(Option<String>, i32, bool)> {
        let mut places = Vec::new();
        poll_fn(|context| {
            places.push(place());
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            yields(true);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        places
    }

    #[tokio::test]
    async fn a_call_that_takes_long_goes_on_aside() {
        let lane = Lane::new().unwrap();
        let places = lane
            .run(&lane.pace(), CPU, || true, Box::pin(interrupted(3)))
            .await
            .unwrap();
        assert_eq!(places.len(), 4);
        assert_eq!(places[0], place(), "its first ticks are here");
        assert!(places[1..].iter().all(|place| *place == in_the_lane()));
    }

    #[tokio::test]
    async fn a_call_that_waits_stays_where_it_is() {
        let lane = Lane::new().unwrap();
        let waits = async {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            place()
        };
        assert_eq!(
            lane.run(&lane.pace(), CPU, || true, Box::pin(waits))
                .await
                .unwrap(),
            place()
        );
    }

    #[tokio::test]
    async fn calls_of_a_policy_that_take_long_often_begin_aside() {
        let lane = Lane::new().unwrap();
        let (slow, quick) = (lane.pace(), lane.pace());
        // Enough for one of two seconds, should one end meanwhile.
        for _ in 0..=COSTLY * 2 {
            lane.run(&slow, CPU, || true, Box::pin(interrupted(1)))
                .await
                .unwrap();
        }
        let places = lane
            .run(&slow, CPU, || true, Box::pin(interrupted(0)))
            .await
            .unwrap();
        assert_eq!(places, [in_the_lane()]);
        let places = lane
            .run(&quick, CPU, || true, Box::pin(interrupted(0)))
            .await
            .unwrap();
        assert_eq!(places, [place()], "another policy's do not");
        slow.slow_until.store(slow.now(), Relaxed);
        let places = lane
            .run(&slow, CPU, || true, Box::pin(interrupted(0)))
            .await
            .unwrap();
        assert_eq!(places, [place()], "for a second only");
    }

    #[tokio::test(start_paused = true)]
    async fn no_policy_takes_the_turns_of_another() {
        let lane = Lane::new().unwrap();
        let (one, other) = (lane.pace(), lane.pace());
        one.slow_until.store(u64::MAX, Relaxed);
        other.slow_until.store(u64::MAX, Relaxed);
        let _held = one.turns.acquire_many(one.turns.available_permits() as u32);
        let _held = _held.await.unwrap();
        // Time is not real here, and passes when all others wait.
        assert_eq!(
            lane.run(&one, CPU, || true, Box::pin(interrupted(0))).await,
            Err(NoTurn::Late)
        );
        tokio::time::resume();
        let places = lane
            .run(&other, CPU, || true, Box::pin(interrupted(0)))
            .await;
        assert_eq!(places, Ok(vec![in_the_lane()]));
    }

    #[tokio::test]
    async fn only_what_it_computes_is_counted() {
        let lane = Lane::new().unwrap();
        let call = async {
            let mut first = true;
            poll_fn(|context| {
                let before = used();
                let began = cpu_time();
                while cpu_time() - began < Duration::from_millis(5) {}
                std::thread::sleep(Duration::from_millis(20));
                let used = used() - before;
                if std::mem::take(&mut first) {
                    yields(true);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready((before, used))
            })
            .await
        };
        let pace = lane.pace();
        pace.slow_until.store(u64::MAX, Relaxed);
        let (before, used) = lane.run(&pace, CPU, || true, Box::pin(call)).await.unwrap();
        let fits = |time: Duration| (5..20).contains(&time.as_millis());
        assert!(fits(used), "{used:?}");
        assert!(fits(before), "{before:?} in the turn before");
    }

    #[tokio::test]
    async fn what_passes_while_others_run_is_not_its_own() {
        let lane = Lane::new().unwrap();
        let call = async {
            let first = met();
            std::thread::sleep(Duration::from_millis(20));
            let slept = met();
            let began = cpu_time();
            while cpu_time() - began < Duration::from_millis(5) {}
            (first, slept, met())
        };
        let (first, slept, computed) = lane
            .run(&lane.pace(), CPU, || true, Box::pin(call))
            .await
            .unwrap();
        assert!(
            first < Duration::from_millis(1),
            "{first:?}: measured from there on"
        );
        assert!(slept < Duration::from_millis(5), "{slept:?}");
        assert!(computed >= Duration::from_millis(5), "{computed:?}");
    }

    /// Tells when it is dropped.
    struct Gone(Arc<AtomicBool>);

    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_goes_on_if_it_had_a_turn_and_ends_if_not() {
        let lane = Lane::new().unwrap();
        let pace = lane.pace();
        let (ended, gone) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (end, held) = (Arc::clone(&ended), Gone(Arc::clone(&gone)));
        let call = async move {
            let _held = held;
            interrupted(1).await;
            while !end.load(Relaxed) {
                interrupted(1).await;
            }
        };
        let waited = lane.run(&pace, CPU, || true, Box::pin(call));
        assert!(tokio::time::timeout(CPU, waited).await.is_err());
        assert!(!gone.load(Relaxed), "it goes on");
        // It has the turns, and another one of the policy waits for them in vain.
        let turns = pace
            .turns
            .acquire_many(pace.turns.available_permits() as u32);
        let turns = turns.await.unwrap();
        let second = Arc::default();
        let held = Gone(Arc::clone(&second));
        let call = async move {
            let _held = held;
            interrupted(1).await
        };
        let waited = lane.run(&pace, CPU, || true, Box::pin(call));
        assert!(tokio::time::timeout(CPU, waited).await.is_err());
        while !second.load(Relaxed) {
            tokio::task::yield_now().await;
        }
        ended.store(true, Relaxed);
        drop(turns);
        while !gone.load(Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_waits_for_its_first_turn_can_be_given_up_if_it_may_be() {
        let lane = Lane::new().unwrap();
        let pace = lane.pace();
        let (tell, told) = tokio::sync::oneshot::channel();
        // Before it waits it has had a turn.
        let begun = async {
            interrupted(1).await;
            told.await.unwrap();
        };
        let begun = lane.run(&pace, CPU, || true, Box::pin(begun));
        let others = async {
            let all = pace.turns.available_permits();
            while pace.slow_until.load(Relaxed) == 0 {
                let _ = lane
                    .run(&pace, CPU, || true, Box::pin(interrupted(1)))
                    .await;
            }
            let turns = pace.turns.acquire_many(all as u32).await.unwrap();
            let gone = Arc::default();
            let held = Gone(Arc::clone(&gone));
            let call = async move {
                let _held = held;
            };
            let may = lane.run(&pace, CPU, || true, Box::pin(call));
            let must = lane.run(&pace, CPU, || false, Box::pin(std::future::ready(())));
            let spare = async {
                while pace.room.available_permits() > all * QUEUE - 3 {
                    tokio::task::yield_now().await;
                }
                pace.spare();
                while !gone.load(Relaxed) {
                    tokio::task::yield_now().await;
                }
                drop(turns);
                tell.send(()).unwrap();
            };
            let (may, must, ()) = tokio::join!(may, must, spare);
            (may, must)
        };
        let (begun, (may, must)) = tokio::join!(begun, others);
        assert_eq!(may, Err(NoTurn::Spared));
        assert_eq!((begun, must), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn what_has_begun_where_requests_are_served_is_not_given_up() {
        let lane = Lane::new().unwrap();
        let pace = lane.pace();
        let all = pace.turns.available_permits();
        let turns = pace.turns.acquire_many(all as u32).await.unwrap();
        let call = lane.run(&pace, CPU, || true, Box::pin(interrupted(1)));
        let spare = async {
            while pace.room.available_permits() == all * QUEUE {
                tokio::task::yield_now().await;
            }
            pace.spare();
            drop(turns);
        };
        let (places, ()) = tokio::join!(call, spare);
        assert_eq!(places.map(|places| places.len()), Ok(2));
    }

    #[tokio::test]
    async fn while_a_call_waits_others_of_its_policy_have_the_turn() {
        let lane = Lane::new().unwrap();
        let pace = lane.pace();
        pace.slow_until.store(u64::MAX, Relaxed);
        let (tell, told) = tokio::sync::oneshot::channel();
        let waits = lane.run(&pace, CPU, || true, Box::pin(told));
        let others = async {
            for _ in 0..3 {
                let places = lane
                    .run(&pace, CPU, || true, Box::pin(interrupted(2)))
                    .await;
                assert_eq!(places, Ok(vec![in_the_lane(); 3]));
            }
            tell.send(()).unwrap();
        };
        assert_eq!(tokio::join!(waits, others).0, Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_call_that_finds_too_many_in_the_lane_fails_at_once() {
        let lane = Lane::new().unwrap();
        let pace = lane.pace();
        pace.slow_until.store(u64::MAX, Relaxed);
        let all = pace.room.acquire_many(pace.room.available_permits() as u32);
        let all = all.await.unwrap();
        let call = || Box::pin(std::future::ready(()));
        assert_eq!(
            lane.run(&pace, CPU, || true, call()).await,
            Err(NoTurn::Late)
        );
        drop(all);
        assert_eq!(lane.run(&pace, CPU, || true, call()).await, Ok(()));
    }

    #[tokio::test]
    #[should_panic(expected = "in the guest's host call")]
    async fn a_panic_is_the_callers() {
        let lane = Lane::new().unwrap();
        let call = async {
            interrupted(1).await;
            panic!("in the guest's host call")
        };
        let _ = lane
            .run::<()>(&lane.pace(), CPU, || true, Box::pin(call))
            .await;
    }
}
