//! A loaded policy and the calls of its hooks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentNamedList, Lift, Lower, Resource};

use crate::about::About;
use crate::admission::Admission;
use crate::decision::{Adjustment, Decision, ResponseInfo, Selector};
use crate::error::{CallError, CallErrorKind};
use crate::instance::{HookFunc, Hooks, Instance, Template};
use crate::lane::{self, NoTurn, Pace};
use crate::limits::Limits;
use crate::memo::{Memo, Recall};
use crate::pool::Pool;
use crate::reads::{ReadInput, Reads, Record};
use crate::request::RequestHead;
use crate::state::{Call, Event, State};
use crate::stats::{Hook, PolicyStats};

/// A policy that was loaded; a clone is a reference count. Its instances go with the
/// last clone.
#[derive(Clone)]
pub struct Policy(Arc<Inner>);

struct Inner {
    template: Template,
    pool: Pool<Instance>,
    memo: Memo,
    pace: Arc<Pace>,
    admission: Admission,
    serial: u64,
}

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);

/// What one call of `on-request` gave.
struct Asked {
    decision: Decision,
    reads: Reads,
    /// The instance that was called.
    by: u64,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// Makes the first instance, so that a policy which refuses its configuration is
    /// not loaded.
    pub(crate) async fn start(template: Template) -> Result<Self, CallError> {
        let pool = Pool::new(template.limits.instances);
        let engine = Arc::clone(&template.engine);
        let policy = Arc::clone(&template.shared.label);
        let pace = engine.lane.pace();
        let made = async move { (template.instantiate().await, template) };
        let Some((first, template)) = engine.lane.load(made).await else {
            return Err(CallError {
                kind: CallErrorKind::Busy,
                hook: Hook::Configure,
                policy,
                message: "the node is ending".to_owned(),
            });
        };
        let first = first?;
        let memo = Memo::default();
        if first.configured_impurely || !template.memo {
            // What it read then (kv, the clock) may be in every decision.
            memo.turn_off();
        }
        pool.put(first);
        Ok(Self(Arc::new(Inner {
            template,
            pool,
            memo,
            pace,
            admission: Admission::all(),
            serial: NEXT_SERIAL.fetch_add(1, Relaxed),
        })))
    }

    /// Makes a second instance where decisions are remembered, which takes two that agree: no
    /// request has to wait for it then. One that fails is made anew when it is needed.
    pub async fn warm(&self) {
        let Inner { template, pool, .. } = &*self.0;
        if !self.remembers() || pool.idle() > 1 || template.limits.instances < 2 {
            return;
        }
        let policy = self.clone();
        let made = async move { policy.0.template.instantiate().await };
        if let Some(Ok(instance)) = template.engine.lane.load(made).await {
            pool.put(instance);
        }
    }

    /// What its instances are made from.
    pub(crate) fn template(&self) -> &Template {
        &self.0.template
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.template.shared.name
    }

    /// The first 12 hexadecimal digits of the BLAKE3 hash of the component.
    pub fn version(&self) -> &str {
        self.0.template.shared.version()
    }

    /// `name@version`, as Cache-Status shows it.
    pub fn label(&self) -> &Arc<str> {
        &self.0.template.shared.label
    }

    /// The whole BLAKE3 hash of the component, in hex.
    pub fn hash(&self) -> &str {
        &self.0.template.shared.hash
    }

    /// What the component says of itself.
    pub fn about(&self) -> &About {
        &self.0.template.shared.about
    }

    /// No other policy that this process loads has it, not even the same version loaded again:
    /// what tells apart whose counters are looked at.
    pub fn serial(&self) -> u64 {
        self.0.serial
    }

    /// The namespaces that it may use.
    pub fn namespaces(&self) -> &[String] {
        &self.0.template.shared.namespaces
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.0.template.limits
    }

    /// Its counters.
    pub fn stats(&self) -> &PolicyStats {
        &self.0.template.shared.stats
    }

    /// Instances that wait for a call.
    pub fn idle_instances(&self) -> usize {
        self.0.pool.idle()
    }

    /// Bytes of memories and tables of all its instances.
    pub fn memory(&self) -> usize {
        self.0.template.shared.memory.used()
    }

    /// Calls that run now.
    pub fn calls_in_flight(&self) -> usize {
        self.0.pool.in_use()
    }

    /// Can its calls wait for a capability? Those of other policies run to their end when
    /// they are first polled, unless all instances are in use or they take milliseconds.
    pub fn waits(&self) -> bool {
        self.0.template.waits
    }

    /// The remembered decision for a request, if there is one.
    pub fn recall(&self, request: &RequestHead) -> Option<Decision> {
        self.recall_with(request, Decision::clone)
    }

    /// What `seen` makes of the remembered decision for a request, where it lies. What is
    /// remembered meanwhile goes elsewhere: nobody waits for its end.
    #[inline]
    pub fn recall_with<R>(
        &self,
        request: &RequestHead,
        seen: impl FnOnce(&Decision) -> R,
    ) -> Option<R> {
        self.0.memo.serve(request, seen)
    }

    /// What the remembered decision for a request rests on; nothing where none is.
    pub fn inputs_of(&self, request: &RequestHead) -> Vec<ReadInput> {
        self.0.memo.inputs(request)
    }

    /// Lets its idle instances go: it is kept, but not in force any more.
    pub fn rest(&self) {
        while self.0.pool.take().is_some() {}
    }

    /// Has only this percentage of the calls of `on-request` made from now on, and with none of
    /// them none of `on-response` for safe methods either, where that is what failed; the others
    /// fail at once as [`CallErrorKind::Quarantined`]. What is remembered is still given.
    pub fn admit(&self, percent: u8) {
        self.0.admission.set(percent);
        if percent == 0 {
            self.spare();
        }
    }

    /// Has the calls that wait for a thread and have not begun fail at once as
    /// [`CallErrorKind::Quarantined`]: those of `on-request`, and those of `on-response` for safe
    /// methods where that is what failed. For a version that is not in force any more since it
    /// fails.
    pub fn spare(&self) {
        self.0.pace.spare();
    }

    /// The percentage of the calls of `on-request` that are made.
    pub fn admitted(&self) -> u8 {
        self.0.admission.percent()
    }

    /// Requests that were not decided since so many calls were not to be made.
    pub fn spared(&self) -> u64 {
        self.0.admission.spared()
    }

    fn not_admitted(&self, hook: Hook) -> CallError {
        let text = "it failed too often and is not called any more";
        let kind = CallErrorKind::Quarantined;
        self.0.template.error(kind, hook, text)
    }

    /// Whether the configuration lets decisions be remembered.
    pub fn may_remember(&self) -> bool {
        self.0.template.memo
    }

    /// Whether decisions are remembered: where they may be, and until the policy is found to
    /// depend on more than what it reads.
    pub fn remembers(&self) -> bool {
        !self.0.memo.is_off()
    }

    /// Decisions that were given without a call.
    pub fn recalled(&self) -> u64 {
        self.0.memo.recalled()
    }

    /// Decides a request by calling the guest, and remembers the decision when it is a
    /// function of what was read. Ask [`Policy::recall`] first. `now_ms` as for
    /// [`Policy::on_request`].
    ///
    /// # Errors
    /// As [`Policy::on_request`].
    pub async fn decide(
        &self,
        request: &Arc<RequestHead>,
        now_ms: u64,
    ) -> Result<Decision, CallError> {
        let memo = &self.0.memo;
        if !self.0.admission.of_request() {
            return match memo.recall(request) {
                // It was to be a sample.
                Recall::Known(decision) => Ok(decision),
                Recall::Ask { .. } => {
                    self.0.admission.spare();
                    Err(self.not_admitted(Hook::OnRequest))
                }
            };
        }
        let undecided = |error: &CallError| {
            if error.kind == CallErrorKind::Quarantined {
                self.0.admission.spare();
            }
        };
        if memo.is_off() {
            let asked = self.ask(request, now_ms, Record::No, 0).await;
            return Ok(asked.inspect_err(undecided)?.decision);
        }
        // The first opinion of an instance needs a second one of another.
        let (known, but_not) = match memo.recall(request) {
            Recall::Ask { but_not } => (None, but_not),
            Recall::Known(decision) => (Some(decision), 0),
        };
        let began = Instant::now();
        let asked = self.ask(request, now_ms, Record::Yes, but_not).await;
        if known.is_some() {
            let now = Instant::now();
            memo.sampled(now, now.duration_since(began));
        }
        let asked = match (asked, known) {
            (Ok(asked), _) => asked,
            // A sample that could not be taken costs the request nothing.
            (Err(_), Some(known)) => return Ok(known),
            (Err(error), None) => {
                undecided(&error);
                return Err(error);
            }
        };
        if memo.learn(&asked.reads, &asked.decision, asked.by) {
            tracing::error!(
                policy = self.name(),
                version = self.version(),
                path = request.path(),
                "the policy decided differently on the same reads: it keeps state of its own, so \
                 its decisions are no longer remembered and every request calls it"
            );
        }
        Ok(asked.decision)
    }

    /// Decides a request, always by calling the guest. `now_ms` is what the guest's clock says, in milliseconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// When the guest fails, breaks a limit or gives what is out of bounds, when no instance comes
    /// free within 100 ms, and when it is called no more.
    pub async fn on_request(
        &self,
        request: &Arc<RequestHead>,
        now_ms: u64,
        record: Record,
    ) -> Result<(Decision, Reads), CallError> {
        let asked = self.ask(request, now_ms, record, 0).await?;
        Ok((asked.decision, asked.reads))
    }

    async fn ask(
        &self,
        request: &Arc<RequestHead>,
        now_ms: u64,
        record: Record,
        but_not: u64,
    ) -> Result<Asked, CallError> {
        let request = Arc::clone(request);
        let call = move || Call {
            request: Some(request),
            now_ms,
            ..Call::default()
        };
        let lend = move |state: &mut State| {
            state.recorder.begin(record);
            Ok((Resource::new_borrow(state.arena.subject()?),))
        };
        let which = Which {
            hook: Hook::OnRequest,
            but_not,
            may_spare: true,
        };
        self.run(
            which,
            call,
            lend,
            |hooks| hooks.on_request,
            |state, by, decision| {
                Ok(Asked {
                    decision: state.take_decision(&decision)?,
                    reads: state.recorder.take(),
                    by,
                })
            },
        )
        .await
    }

    /// Asks what to do with the origin's response.
    ///
    /// # Errors
    /// As [`Policy::on_request`]; then nothing may be stored.
    pub async fn on_response(
        &self,
        request: &Arc<RequestHead>,
        response: ResponseInfo,
        now_ms: u64,
    ) -> Result<Adjustment, CallError> {
        let admission = &self.0.admission;
        // After a change it alone can say what else is to go, so these calls are made in any case.
        let may_spare = request.method.is_safe();
        if may_spare && !admission.of_response() {
            return Err(self.not_admitted(Hook::OnResponse));
        }
        let request = Arc::clone(request);
        let call = move || Call {
            request: Some(request),
            response: Some(response),
            now_ms,
            ..Call::default()
        };
        let lend = |state: &mut State| {
            let request = Resource::new_borrow(state.arena.subject()?);
            Ok((request, Resource::new_borrow(state.arena.subject()?)))
        };
        let which = Which {
            hook: Hook::OnResponse,
            but_not: 0,
            may_spare,
        };
        let called = self.run(
            which,
            call,
            lend,
            |hooks| hooks.on_response,
            |state, _, ()| Ok(std::mem::take(&mut state.call.adjustment)),
        );
        let adjusted = called.await;
        if may_spare {
            admission.responded(adjusted.as_ref().err().map(|error| error.kind));
        }
        adjusted
    }

    /// Asks what a domain event invalidates. `data` is JSON text (`null` when the event
    /// has none).
    ///
    /// # Errors
    /// As [`Policy::on_request`]; then the event must not be acknowledged.
    pub async fn on_event(
        &self,
        kind: &str,
        data: &str,
        now_ms: u64,
    ) -> Result<Vec<Selector>, CallError> {
        let event = Event {
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        let call = move || Call {
            event: Some(event),
            now_ms,
            ..Call::default()
        };
        let lend = |state: &mut State| Ok((Resource::new_borrow(state.arena.subject()?),));
        let which = Which {
            hook: Hook::OnEvent,
            but_not: 0,
            may_spare: false,
        };
        self.run(
            which,
            call,
            lend,
            |hooks| hooks.on_event,
            |state, _, selectors| state.take_selectors(&selectors),
        )
        .await
    }

    /// Calls one hook, aside when it takes long. What it is called with is made where it is used:
    /// in the futures around it there would be several copies.
    async fn run<P, R, T>(
        &self,
        which: Which,
        call: impl FnOnce() -> Call + Send + 'static,
        lend: impl FnOnce(&mut State) -> wasmtime::Result<P> + Send + 'static,
        function: impl FnOnce(&Hooks) -> HookFunc<P, R> + Send + 'static,
        finish: impl FnOnce(&mut State, u64, R) -> wasmtime::Result<T> + Send + 'static,
    ) -> Result<T, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: Send + Sync + 'static,
        T: Send + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync,
    {
        let Inner { template, pace, .. } = &*self.0;
        let Which {
            hook, may_spare, ..
        } = which;
        let policy = self.clone();
        let called =
            Box::pin(async move { policy.call(which, call, lend, function, finish).await });
        let cpu = template.budget(hook);
        let may_spare =
            || may_spare && (hook != Hook::OnResponse || self.0.admission.responses_fail());
        match template.engine.lane.run(pace, cpu, may_spare, called).await {
            Ok(ended) => ended,
            Err(NoTurn::Spared) => Err(self.not_admitted(hook)),
            Err(NoTurn::Late) => {
                let text = "its calls take long, and no turn of the node's threads for such calls came in time";
                let error = template.error(CallErrorKind::Busy, hook, text);
                let stats = template.shared.stats.hook(hook);
                stats.ended(Duration::ZERO, Some(error.kind));
                Err(error)
            }
        }
    }

    /// Calls one hook on an instance of the pool, or on a new one if the pool offers none
    /// but `but_not` (0: any will do). The instance goes back only when all
    /// went well or the guest returned an error in order.
    async fn call<P, R, T>(
        &self,
        Which { hook, but_not, .. }: Which,
        call: impl FnOnce() -> Call + Send,
        lend: impl FnOnce(&mut State) -> wasmtime::Result<P> + Send,
        function: impl FnOnce(&Hooks) -> HookFunc<P, R> + Send,
        finish: impl FnOnce(&mut State, u64, R) -> wasmtime::Result<T> + Send,
    ) -> Result<T, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync,
    {
        let Inner {
            template,
            pool,
            pace,
            ..
        } = &*self.0;
        let stats = template.shared.stats.hook(hook);
        // Here, since who waits for the call may have left.
        let fail = |took: Duration, error: CallError| {
            stats.ended(took, Some(error.kind));
            if error.kind.costs_instance() {
                pace.costly();
                template.engine.costly.notify_one();
            }
            Err(error)
        };
        let Ok(_permit) = pool.permit().await else {
            let text = "all its instances are in use, and none came free in time";
            return fail(
                Duration::ZERO,
                template.error(CallErrorKind::Busy, hook, text),
            );
        };
        let idle = pool.take_where(|instance: &Instance| instance.id != but_not);
        let mut instance = match idle {
            Some(instance) => instance,
            // Boxed: it is rare and large, and every call would have room for it.
            None => match Box::pin(template.instantiate()).await {
                Ok(instance) => instance,
                Err(error) => return fail(Duration::ZERO, error),
            },
        };
        let id = instance.id;
        let began = Watch::start();
        let params = match lend(instance.begin(call())) {
            Ok(params) => params,
            Err(error) => {
                let took = began.took(instance.state());
                return fail(took, template.failed(hook, instance.state(), &error));
            }
        };
        let function = function(&instance.hooks());
        let returned = instance.call(template, hook, function, params).await;
        let took = began.took(instance.state());
        match returned {
            Ok(value) => match finish(instance.state(), id, value) {
                Ok(result) => {
                    stats.ended(took, None);
                    instance.end().into_iter().for_each(|i| pool.put(i));
                    Ok(result)
                }
                Err(error) => fail(took, template.failed(hook, instance.state(), &error)),
            },
            Err(error) => {
                if error.kind == CallErrorKind::Refused {
                    instance.end().into_iter().for_each(|i| pool.put(i));
                }
                fail(took, error)
            }
        }
    }
}

/// Which call is to be made.
#[derive(Clone, Copy)]
struct Which {
    hook: Hook,
    /// The instance that is not to be asked; 0: any will do.
    but_not: u64,
    /// It need not be made when the policy is called no more. After a change, and of an event, the
    /// guest alone can say what is to go.
    may_spare: bool,
}

/// How long a call takes: the time that passes on threads that serve; in the lane, where most
/// of what passes belongs to others, its CPU time and what it waited for.
struct Watch {
    began: Instant,
    used_before: Duration,
}

impl Watch {
    fn start() -> Self {
        Self {
            began: Instant::now(),
            used_before: lane::used(),
        }
    }

    fn took(&self, state: &State) -> Duration {
        match lane::is_aside() {
            true => lane::used().saturating_sub(self.used_before) + state.call.waited,
            false => self.began.elapsed(),
        }
    }
}
