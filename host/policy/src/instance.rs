//! One instance of a component: its store, its hooks, and how a call of them ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, Resource,
    TypedFunc,
};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};

use crate::bindings::http;
use crate::engine::EngineInner;
use crate::error::{CallError, CallErrorKind, Fault, cut};
use crate::lane;
use crate::limits::Limits;
use crate::state::{Call, Shared, State};
use crate::stats::Hook;

/// The most that a guest hands over in one call, in bytes. What is bounded more closely is told
/// so; this keeps the host from copying it first.
const MOST_AT_ONCE: usize = 4 * 1024 * 1024;
/// What wasmtime says of more than that. The error's type is its own.
const TOO_MUCH: &str = "too much data is being copied between the host and the guest";
/// The longest message of a failed call, in bytes.
const MAX_MESSAGE: usize = 2_048;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A hook with these parameters and this result.
pub(crate) type HookFunc<P, R> = TypedFunc<P, (Result<R, String>,)>;

/// The four hooks of an instance.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    configure: HookFunc<(Arc<str>,), ()>,
    pub(crate) on_request: HookFunc<(Resource<http::Request>,), http::Decision>,
    pub(crate) on_response: HookFunc<(Resource<http::Request>, Resource<http::Response>), ()>,
    pub(crate) on_event: HookFunc<(Resource<http::Event>,), Vec<Resource<http::Selector>>>,
}

/// Where the hooks are in a component.
#[derive(Debug, Clone)]
pub(crate) struct HookIndices([ComponentExportIndex; 4]);

impl HookIndices {
    /// Finds the hooks in the exported instance of this name.
    ///
    /// # Errors
    /// The name of what is missing.
    pub(crate) fn find(component: &Component, interface: &str) -> Result<Self, String> {
        let hooks = component
            .get_export_index(None, interface)
            .ok_or_else(|| interface.to_owned())?;
        let find = |hook: Hook| {
            component
                .get_export_index(Some(&hooks), hook.name())
                .ok_or_else(|| format!("{interface}#{}", hook.name()))
        };
        let [configure, request, response, event] = Hook::ALL;
        Ok(Self([
            find(configure)?,
            find(request)?,
            find(response)?,
            find(event)?,
        ]))
    }
}

/// What instances are made from.
pub(crate) struct Template {
    pub(crate) engine: Arc<EngineInner>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) indices: HookIndices,
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    /// The policy's configuration as JSON text.
    pub(crate) config: Arc<str>,
    /// The component imports a capability that can wait.
    pub(crate) waits: bool,
    /// Decisions may be remembered.
    pub(crate) memo: bool,
}

/// An instance that is ready for calls.
pub(crate) struct Instance {
    /// No other instance of this process has it; never 0.
    pub(crate) id: u64,
    /// A capability was used in `configure`.
    pub(crate) configured_impurely: bool,
    store: Store<State>,
    hooks: Hooks,
    calls_left: u32,
}

impl Template {
    /// Makes an instance and configures it.
    pub(crate) async fn instantiate(&self) -> Result<Instance, CallError> {
        let began = Instant::now();
        let result = self.try_instantiate().await;
        let error = result.as_ref().err().map(|error: &CallError| error.kind);
        let stats = &self.shared.stats;
        stats.hook(Hook::Configure).ended(began.elapsed(), error);
        if error.is_none() {
            stats.instances_made.fetch_add(1, Relaxed);
        }
        result
    }

    async fn try_instantiate(&self) -> Result<Instance, CallError> {
        let state = State::new(self.shared.clone(), self.limits.memory);
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(MOST_AT_ONCE);
        // The clock is no more exact than that.
        let most = self.engine.tick * 3 / 4;
        store.epoch_deadline_callback(move |mut context| {
            let state = context.data_mut();
            let used = lane::met().saturating_sub(state.used_before);
            if used >= state.budget {
                return Err(wasmtime::Error::new(Fault::Cpu));
            }
            // What has passed may not have been the guest's: others run on this core too.
            if used < most && !lane::is_aside() {
                return Ok(UpdateDeadline::Continue(1));
            }
            lane::yields(used >= most);
            Ok(UpdateDeadline::Yield(1))
        });
        let _clock = self.engine.clock();
        self.give_time(&mut store, Hook::Configure);
        let made = self.pre.instantiate_async(&mut store).await;
        let hooks = made.and_then(|instance| {
            let [configure, request, response, event] = &self.indices.0;
            Ok(Hooks {
                configure: instance.get_typed_func(&mut store, configure)?,
                on_request: instance.get_typed_func(&mut store, request)?,
                on_response: instance.get_typed_func(&mut store, response)?,
                on_event: instance.get_typed_func(&mut store, event)?,
            })
        });
        let hooks = match hooks {
            Ok(hooks) => hooks,
            Err(error) => return Err(self.failed(Hook::Configure, store.data(), &error)),
        };
        let mut instance = Instance {
            id: NEXT_ID.fetch_add(1, Relaxed),
            configured_impurely: false,
            store,
            hooks,
            calls_left: self.limits.next_reuse(),
        };
        let params = (self.config.clone(),);
        instance
            .call(self, Hook::Configure, hooks.configure, params)
            .await?;
        instance.configured_impurely = instance.store.data_mut().recorder.take().impure;
        let state = instance.store.data_mut();
        state.wasi.started();
        state.end();
        Ok(instance)
    }

    /// What an error of wasmtime means.
    pub(crate) fn failed(&self, hook: Hook, state: &State, error: &wasmtime::Error) -> CallError {
        let interrupted = error.downcast_ref::<Trap>() == Some(&Trap::Interrupt);
        let (kind, message) = match error.downcast_ref::<Fault>() {
            Some(Fault::Cpu) => self.cpu(hook),
            None if interrupted => self.cpu(hook),
            Some(Fault::BadOutput(message)) => (CallErrorKind::BadOutput, message.clone()),
            Some(Fault::Namespace(message)) => (CallErrorKind::Namespace, message.clone()),
            Some(Fault::Handle(message) | Fault::Denied(message)) => {
                (CallErrorKind::Trap, message.clone())
            }
            None if error.root_cause().to_string().starts_with(TOO_MUCH) => (
                CallErrorKind::BadOutput,
                format!("it handed over more than {MOST_AT_ONCE} bytes at once"),
            ),
            None if state.limiter.refused() => (
                CallErrorKind::MemoryLimit,
                format!(
                    "it asked for more than its {} bytes of memory and failed: raise the limit, or use less",
                    self.limits.memory
                ),
            ),
            None if error.is::<PoolConcurrencyLimitError>() => (
                CallErrorKind::Busy,
                "the node has no room for another instance: lower the limits on instances"
                    .to_owned(),
            ),
            None => (CallErrorKind::Trap, trap_text(error, &state.wasi.said())),
        };
        self.error(kind, hook, &message)
    }

    fn cpu(&self, hook: Hook) -> (CallErrorKind, String) {
        let message = format!(
            "it used more than its {} ms of CPU and was stopped",
            self.budget(hook).as_millis()
        );
        (CallErrorKind::CpuLimit, message)
    }

    pub(crate) fn error(&self, kind: CallErrorKind, hook: Hook, message: &str) -> CallError {
        CallError {
            kind,
            hook,
            policy: Arc::clone(&self.shared.label),
            message: cut(message, MAX_MESSAGE).to_owned(),
        }
    }

    /// The CPU time of a call, measured from the first tick that meets it.
    fn give_time(&self, store: &mut Store<State>, hook: Hook) {
        store.set_epoch_deadline(1);
        let state = store.data_mut();
        state.budget = self.budget(hook);
        state.used_before = lane::used();
    }

    pub(crate) fn budget(&self, hook: Hook) -> Duration {
        match hook {
            Hook::Configure => self.limits.configure_cpu,
            _ => self.limits.cpu,
        }
    }
}

/// What the guest printed at its end (a traceback), then the cause, then where it happened.
fn trap_text(error: &wasmtime::Error, said: &str) -> String {
    let cause = error.root_cause().to_string();
    let context = error.to_string();
    if !said.is_empty() {
        format!("{said}\n({cause})")
    } else if context == cause {
        cause
    } else {
        format!("{cause}; {context}")
    }
}

impl Instance {
    pub(crate) fn hooks(&self) -> Hooks {
        self.hooks
    }

    pub(crate) fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// Makes ready for a call of a hook.
    pub(crate) fn begin(&mut self, call: Call) -> &mut State {
        let state = self.store.data_mut();
        state.begin(call);
        state
    }

    /// Calls a hook. Waits where the component does ([`Template::waits`]), and lets others
    /// have their turn when it runs for longer than a tick.
    pub(crate) async fn call<P, R>(
        &mut self,
        template: &Template,
        hook: Hook,
        function: HookFunc<P, R>,
        params: P,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (Result<R, String>,): ComponentNamedList + Lift + Send + Sync,
    {
        let _clock = template.engine.clock();
        template.give_time(&mut self.store, hook);
        match function.call_async(&mut self.store, params).await {
            Ok((Ok(result),)) => Ok(result),
            Ok((Err(text),)) => Err(template.error(CallErrorKind::Refused, hook, &text)),
            Err(error) => Err(template.failed(hook, self.store.data(), &error)),
        }
    }

    /// Ends a call that went well. `None` when the instance has served its time, or holds
    /// randomness that later calls would rest on.
    pub(crate) fn end(mut self) -> Option<Self> {
        self.store.data_mut().end();
        self.calls_left = self.calls_left.saturating_sub(1);
        (self.calls_left > 0 && !self.store.data().wasi.drew()).then_some(self)
    }
}
