//! Loading a component: every test that it must pass before it serves.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use crate::about::About;
use crate::bindings::{clock, http, kv, log, rate_limit};
use crate::capabilities::{CAPABILITIES, Grants, HostServices};
use crate::engine::{Engine, EngineInner};
use crate::error::{LoadCause, LoadError, cut};
use crate::globs::GlobCache;
use crate::instance::{HookIndices, Template};
use crate::limits::{Limits, Total};
use crate::policy::Policy;
use crate::state::{LogBudget, Shared, State, label};
use crate::stats::{Hook, PolicyStats};

/// The version of the contract, that of `wit/policy.wit` and of [`crate::bindings`]. What was
/// built against an earlier one of the same major number fits too.
pub const CONTRACT: &str = "1.1.0";

/// What the configuration says about a policy.
#[derive(Debug, Clone)]
pub struct PolicySpec {
    /// Its name.
    pub name: String,
    /// The namespaces it may use, each matching `[a-z0-9][a-z0-9_-]{0,63}`.
    pub namespaces: Vec<String>,
    /// The capabilities it may import.
    pub grants: Grants,
    /// Given to `configure` as JSON text; null is given as `{}`.
    pub config: serde_json::Value,
    /// What it may use.
    pub limits: Limits,
    /// Whether decisions are remembered that rest on nothing but what was read.
    pub memo: bool,
}

impl Engine {
    /// Compiles a component off the caller's thread, tests its exports and its imports
    /// against the grants, and configures a first instance. Needs a tokio runtime with
    /// its timer.
    ///
    /// # Errors
    /// A [`LoadError`] whose text says what is wrong and what to do.
    pub async fn load(
        &self,
        spec: PolicySpec,
        component: Bytes,
        services: HostServices,
    ) -> Result<Policy, LoadError> {
        let policy = spec.name.clone();
        let loaded = self.try_load(spec, component, services).await;
        loaded.map_err(|cause| LoadError { policy, cause })
    }

    async fn try_load(
        &self,
        spec: PolicySpec,
        bytes: Bytes,
        services: HostServices,
    ) -> Result<Policy, LoadCause> {
        check_spec(&spec)?;
        check_format(&bytes)?;
        let (engine, grants) = (self.clone(), spec.grants);
        let made = tokio::task::spawn_blocking(move || Made::of(&engine, &bytes, grants));
        let Made {
            pre,
            indices,
            waits,
            about,
            hash,
        } = made
            .await
            .map_err(|error| LoadCause::Compile(format!("the compiler failed: {error}")))??;
        let hash = hash.to_hex().to_string();
        let shared = Arc::new(Shared {
            label: label(&spec.name, &hash),
            name: spec.name,
            hash,
            about,
            namespaces: spec.namespaces,
            services,
            globs: GlobCache::default(),
            stats: PolicyStats::default(),
            memory: Arc::new(Total::new(spec.limits.total_memory)),
            log_budget: LogBudget::default(),
            runtime: tokio::runtime::Handle::current(),
        });
        let template = Template {
            engine: self.0.clone(),
            pre,
            indices,
            shared,
            limits: spec.limits,
            config: text(&spec.config).into(),
            waits,
            memo: spec.memo,
        };
        Policy::start(template)
            .await
            .map_err(|error| LoadCause::Configure(error.message))
    }
}

impl Policy {
    /// The same version once more, to be tried by itself: with other services, and with
    /// other namespaces and another `config` where they are given. Its counters and its
    /// instances are its own. Nothing is compiled, and what the component may import stays.
    ///
    /// # Errors
    /// As [`Engine::load`]: a namespace that cannot be one, and what `configure` says.
    pub async fn beside(
        &self,
        services: HostServices,
        namespaces: Option<&[String]>,
        config: Option<&serde_json::Value>,
    ) -> Result<Self, LoadError> {
        let template = self.template();
        let refused = |cause| LoadError {
            policy: self.name().to_owned(),
            cause,
        };
        let namespaces = namespaces.unwrap_or(self.namespaces());
        check_namespaces(namespaces).map_err(refused)?;
        let shared = Shared {
            name: self.name().to_owned(),
            hash: self.hash().to_owned(),
            label: Arc::clone(self.label()),
            about: self.about().clone(),
            namespaces: namespaces.to_vec(),
            services,
            globs: GlobCache::default(),
            stats: PolicyStats::default(),
            memory: Arc::new(Total::new(template.limits.total_memory)),
            log_budget: LogBudget::default(),
            runtime: template.shared.runtime.clone(),
        };
        let template = Template {
            engine: template.engine.clone(),
            pre: template.pre.clone(),
            indices: template.indices.clone(),
            shared: Arc::new(shared),
            limits: template.limits,
            config: config.map_or_else(|| template.config.clone(), |config| text(config).into()),
            waits: template.waits,
            memo: template.memo,
        };
        let started = Self::start(template).await;
        started.map_err(|error| refused(LoadCause::Configure(error.message)))
    }
}

/// What a component is made into, before an instance runs.
struct Made {
    pre: InstancePre<State>,
    indices: HookIndices,
    /// One of its imports can wait.
    waits: bool,
    about: About,
    hash: blake3::Hash,
}

impl Made {
    /// Blocks for as long as that takes, with all that takes long at the lowest priority.
    fn of(engine: &Engine, bytes: &[u8], grants: Grants) -> Result<Self, LoadCause> {
        let compiling = &engine.0.compiling;
        let (about, hash) = compiling.run(|| (About::read(bytes), blake3::hash(bytes)));
        let component = compile(&engine.0, bytes, &hash)?;
        compiling.run(|| {
            let (pre, indices, waits) = inspect(engine, &component, grants)
                .map_err(|cause| or_newer(engine, &component, cause))?;
            Ok(Self {
                pre,
                indices,
                waits,
                about,
                hash,
            })
        })
    }
}

/// Tests what the component imports and exports, and links it. Says whether it can wait.
fn inspect(
    engine: &Engine,
    component: &Component,
    grants: Grants,
) -> Result<(InstancePre<State>, HookIndices, bool), LoadCause> {
    let waits = check_imports(engine, component, grants)?;
    let indices = find_hooks(engine, component)?;
    let pre = linker(engine, grants, component)
        .and_then(|linker| linker.instantiate_pre(component))
        .map_err(|error| LoadCause::Mismatch(format!("{error:#}")))?;
    check_hook_types(engine, component)?;
    Ok((pre, indices, waits))
}

/// A component that does not fit and is of a newer contract needs a newer host.
fn or_newer(engine: &Engine, component: &Component, cause: LoadCause) -> LoadCause {
    let of_contract = matches!(
        cause,
        LoadCause::Export(_) | LoadCause::UnknownImports { .. } | LoadCause::Mismatch(_)
    );
    match newest_contract(engine, component) {
        Some((found, version)) if of_contract && Some(&found) > numbers(CONTRACT).as_ref() => {
            LoadCause::Newer {
                version,
                cause: Box::new(cause),
            }
        }
        _ => cause,
    }
}

/// The newest version of the contract that the component names.
fn newest_contract(engine: &Engine, component: &Component) -> Option<(Vec<u64>, String)> {
    let (engine, ty) = (&engine.0.wasmtime, component.component_type());
    let imports = ty.imports(engine).map(|(name, _)| name);
    let exports = ty.exports(engine).map(|(name, _)| name);
    let version = |name: &str| {
        let (_, version) = name.strip_prefix("weir:policy/")?.split_once('@')?;
        Some((numbers(version)?, version.to_owned()))
    };
    imports.chain(exports).filter_map(version).max()
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let numbers = version.split('.').map(str::parse);
    numbers.collect::<Result<_, _>>().ok()
}

/// What `configure` is given.
fn text(config: &serde_json::Value) -> String {
    match config {
        serde_json::Value::Null => "{}".to_owned(),
        config => config.to_string(),
    }
}

fn check_spec(spec: &PolicySpec) -> Result<(), LoadCause> {
    spec.limits.check().map_err(LoadCause::Spec)?;
    check_namespaces(&spec.namespaces)
}

fn check_namespaces(namespaces: &[String]) -> Result<(), LoadCause> {
    for namespace in namespaces {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = namespace.len() <= 64
            && namespace.bytes().next().is_some_and(inner)
            && namespace
                .bytes()
                .all(|b| inner(b) || b == b'_' || b == b'-');
        if !fits {
            return Err(LoadCause::Spec(format!(
                "the namespace `{}` is not allowed: use 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit",
                cut(namespace, 80).escape_debug()
            )));
        }
    }
    Ok(())
}

/// Tells a component from a core module, from text and from anything else.
fn check_format(bytes: &[u8]) -> Result<(), LoadCause> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.starts_with(COMPONENT) {
        return Ok(());
    }
    let what = if bytes.is_empty() {
        "the file is empty: it must be a WebAssembly component".to_owned()
    } else if bytes.starts_with(MODULE) {
        "this is a core WebAssembly module, not a component: make a component of it with `weir plugin build`, or with `wasm-tools component new`".to_owned()
    } else if bytes.starts_with(b"\0asm") {
        "this is WebAssembly of a version that this host does not know: build it with a newer or older toolchain".to_owned()
    } else if std::str::from_utf8(bytes).is_ok() {
        "this is text, not a WebAssembly component: compile the policy, and give the resulting .wasm file".to_owned()
    } else {
        "this is not WebAssembly: give the component (.wasm) that `weir plugin build` wrote"
            .to_owned()
    };
    Err(LoadCause::NotAComponent(what))
}

fn compile(
    engine: &EngineInner,
    bytes: &[u8],
    hash: &blake3::Hash,
) -> Result<Component, LoadCause> {
    match &engine.cache {
        Some(cache) => cache.component(&engine.wasmtime, bytes, hash, &engine.compiling),
        None => engine.compiling.component(&engine.wasmtime, bytes),
    }
    .map_err(|error| LoadCause::Compile(format!("{error:#}")))
}

/// Tests every import against the grants. Says whether one of them can wait.
fn check_imports(
    engine: &Engine,
    component: &Component,
    grants: Grants,
) -> Result<bool, LoadCause> {
    let mut waits = false;
    let mut wasi = None;
    let mut unknown = Vec::new();
    for (import, _) in component.component_type().imports(&engine.0.wasmtime) {
        match interface_of_contract(import) {
            Some("http") => {}
            Some(name) => match CAPABILITIES.into_iter().find(|known| *known == name) {
                Some(capability) if !grants.allows(capability) => {
                    return Err(LoadCause::Ungranted { capability });
                }
                Some(capability) => waits |= matches!(capability, "kv" | "rate-limit"),
                None => unknown.push(import.to_owned()),
            },
            None if crate::wasi::interface(import).is_some() => {}
            None if import.starts_with("wasi:") => {
                wasi.get_or_insert_with(|| import.to_owned());
            }
            None => unknown.push(import.to_owned()),
        }
    }
    if let Some(import) = wasi {
        return Err(LoadCause::Wasi { import });
    }
    if !unknown.is_empty() {
        return Err(LoadCause::UnknownImports { imports: unknown });
    }
    Ok(waits)
}

/// `kv` of `weir:policy/kv@1.0.0` and of later versions that are compatible.
fn interface_of_contract(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix("weir:policy/")?.split_once('@')?;
    version.starts_with("1.").then_some(interface)
}

fn find_hooks(engine: &Engine, component: &Component) -> Result<HookIndices, LoadCause> {
    let hooks = format!("weir:policy/hooks@{CONTRACT}");
    HookIndices::find(component, &hooks).map_err(|missing| {
        let exports: Vec<String> = component
            .component_type()
            .exports(&engine.0.wasmtime)
            .map(|(name, _)| format!("`{}`", name.escape_debug()))
            .take(16)
            .collect();
        let exports = if exports.is_empty() {
            "nothing".to_owned()
        } else {
            exports.join(", ")
        };
        LoadCause::Export(format!(
            "the component does not export `{missing}`: a policy exports all hooks of the package weir:policy@{CONTRACT}. It exports {exports}"
        ))
    })
}

/// Tests that the hooks are the functions that the contract says, before one is called.
fn check_hook_types(engine: &Engine, component: &Component) -> Result<(), LoadCause> {
    use wasmtime::component::types::{ComponentItem, Type};
    let engine = &engine.0.wasmtime;
    let ty = component.component_type();
    let Some(ComponentItem::ComponentInstance(hooks)) = ty
        .exports(engine)
        .find(|(name, _)| interface_of_contract(name) == Some("hooks"))
        .map(|(_, export)| export.ty)
    else {
        return Ok(());
    };
    for hook in Hook::ALL {
        let function = hooks.get_export(engine, hook.name()).map(|e| e.ty);
        let Some(ComponentItem::ComponentFunc(function)) = function else {
            return Err(wrong_hook(hook));
        };
        let params: Vec<Type> = function.params().map(|(_, ty)| ty).collect();
        let fits = matches!(
            (hook, params.as_slice()),
            (Hook::Configure, [Type::String])
                | (Hook::OnRequest | Hook::OnEvent, [Type::Borrow(_)])
                | (Hook::OnResponse, [Type::Borrow(_), Type::Borrow(_)])
        );
        let results: Vec<Type> = function.results().collect();
        if !fits || !matches!(results.as_slice(), [Type::Result(_)]) || function.async_() {
            return Err(wrong_hook(hook));
        }
    }
    Ok(())
}

fn wrong_hook(hook: Hook) -> LoadCause {
    LoadCause::Export(format!(
        "the component exports `weir:policy/hooks#{hook}` with other parameters or results than the package weir:policy@{CONTRACT} says: build it against that package"
    ))
}

fn linker(
    engine: &Engine,
    grants: Grants,
    component: &Component,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(&engine.0.wasmtime);
    http::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    if grants.log {
        log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.clock {
        clock::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.kv {
        kv::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.rate_limit {
        rate_limit::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    crate::wasi::add_to_linker(&mut linker, &engine.0.wasmtime, component)?;
    Ok(linker)
}

#[cfg(test)]
mod tests;
