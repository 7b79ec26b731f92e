//! `weir run` and `weir check`.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use weir_admin::Auth;
use weir_proxy::Listener;

use crate::app::App;
use crate::certificates::Certificates;
use crate::config::{Admin, Config};
use crate::connections::Announcer;
use crate::control::NodeControl;
use crate::fleet::{self, Membership};
use crate::guard;
use crate::logging;
use crate::metrics;
use crate::settings;
use crate::sharing;
use crate::watch::Watcher;

/// How long a start waits for Redis's log, so that a restarted node can use what is there
/// for its first requests.
const JOIN_REDIS: Duration = Duration::from_millis(250);
/// How long a start waits for the versions that the fleet has: the largest compile in less.
const CATCH_UP: Duration = Duration::from_secs(15);
/// How long a stop waits for objects that are still to be written to Redis.
const DRAIN_REDIS: Duration = Duration::from_secs(2);
/// How long a start waits for the disk tier to be opened.
const OPEN_DISK: Duration = Duration::from_millis(1_500);
/// How long a stop waits for what is still to be written to disk.
const CLOSE_DISK: Duration = Duration::from_secs(5);
/// How often idle tiers are tidied.
const TIDY: Duration = Duration::from_secs(1);

/// Runs a node until SIGTERM or SIGINT.
pub(crate) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
    };
    logging::start(config.log)?;
    for problem in &config.warnings {
        tracing::warn!("{problem}");
    }
    runtime(config.threads)?.block_on(async {
        let stop = stop_signal()?;
        Box::pin(serve(config, stop, |_| ())).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Checks a configuration, components included.
pub(crate) fn check(file: &Path) -> anyhow::Result<ExitCode> {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
    };
    for problem in &config.warnings {
        eprintln!("{problem}\n");
    }
    let (policies, routes) = (config.policies.len(), config.routes.len());
    // Nothing is written, and nobody is asked but a registry that has a component.
    let offline = Config {
        data_dir: None,
        ..config
    };
    let checked = runtime(1)?.block_on(async {
        let granting = offline.routes.clone();
        let app = App::offline(offline).await?;
        for problem in sharing::doubts(&app.node, &granting).await {
            eprintln!("{problem}\n");
        }
        anyhow::Ok(())
    });
    if let Err(error) = checked {
        eprintln!("{error:#}");
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "{}: {routes} routes, {policies} policies: no errors",
        file.display()
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("weir")
        .enable_all()
        .build()
        .context("the threads cannot be started")
}

/// Completes at SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Serves until `stop` completes. `ready` is called when requests are taken.
pub(crate) async fn serve(
    config: Config,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(&Arc<App>),
) -> anyhow::Result<()> {
    let server = settings::server(&config);
    let admin = config.admin.clone();
    let connections_ttl = settings::connections_ttl(&config);
    let data_dir = config.data_dir.clone();
    // Bound first: a port that is taken should not cost a compilation.
    let cleartext = bind(&server.listen)?;
    let tls_listen = config.tls.iter().flat_map(|tls| &tls.listen);
    let secured = bind(tls_listen)?;
    let admin_listener = admin
        .as_ref()
        .map(|admin| weir_proxy::bind(admin.listen))
        .transpose()
        .context("[admin]")?;
    let auth = admin.as_ref().map(auth).transpose()?;
    // Caught from now on: uncaught, it would end the process.
    let hangup = signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be caught"))
        .ok();
    let app = App::start(config).await?;
    metrics::register(&app);
    guard::start(&app);
    let caught_up = fleet::follow(&app);
    if let Some(redis) = app.node.redis() {
        if !redis.joined(JOIN_REDIS).await {
            tracing::warn!("Redis does not answer yet; starting without it");
        } else if let Some(caught_up) = caught_up
            && tokio::time::timeout(CATCH_UP, caught_up).await.is_err()
        {
            tracing::warn!("still loading what the fleet has; starting with what is there");
        }
    }
    let disk = app.node.second().and_then(|second| second.disk()).cloned();
    if let Some(disk) = &disk
        && !disk.opened(OPEN_DISK).await
    {
        tracing::warn!("the disk tier is not open yet; starting without it");
    }
    let (end_admin, admin_ends) = oneshot::channel::<()>();
    let admin_task = admin_listener.zip(auth).map(|(listener, auth)| {
        let control = Arc::new(NodeControl(Arc::clone(&app)));
        tokio::spawn(admin_api(listener, auth, control, admin_ends))
    });
    let addresses = [&cleartext, &secured].into_iter().flatten();
    let listen = addresses.filter_map(|socket| socket.local_addr().ok());
    let listen: Vec<_> = listen.map(|address| address.to_string()).collect();
    let membership = Membership::start(&app, listen, data_dir.as_deref());
    let announcer = Announcer::start(&app.node, connections_ttl);
    let following = tokio::spawn(follow(Arc::clone(&app), hangup));
    app.node
        .memory()
        .sweep_in_background()
        .context("the system gives no thread to let go of what has ended")?;
    let tidying = tokio::spawn(tidy(Arc::clone(&app)));
    let tls = app.certificates.as_ref().map(Certificates::tls);
    let listeners: Vec<_> = cleartext
        .into_iter()
        .map(|socket| Listener { socket, tls: None })
        .chain(secured.into_iter().map(|socket| Listener {
            socket,
            tls: tls.clone(),
        }))
        .collect();
    for listener in &listeners {
        let address = listener.socket.local_addr()?;
        tracing::info!(%address, tls = listener.tls.is_some(), "listening");
    }
    app.set_serving(true);
    ready(&app);
    let draining = {
        let app = Arc::clone(&app);
        async move {
            stop.await;
            app.set_serving(false);
            tracing::info!("stopping");
        }
    };
    weir_proxy::serve(Arc::clone(&app.node), listeners, server, draining).await;
    following.abort();
    // It may be about to read a file, which fails once the runtime ends.
    let _ = following.await;
    tidying.abort();
    if let Some(announcer) = announcer {
        announcer.leave().await;
    }
    if let Some(membership) = membership {
        membership.leave().await;
    }
    if let Some(redis) = app.node.redis() {
        redis.drained(DRAIN_REDIS).await;
    }
    if let Some(disk) = &disk
        && !disk.close(CLOSE_DISK).await
    {
        tracing::warn!("not all that was to be written to disk has been");
    }
    drop(end_admin);
    if let Some(task) = admin_task {
        // It has logged what went wrong, if anything.
        let _ = task.await;
    }
    tracing::info!("stopped");
    Ok(())
}

fn bind<'a>(
    addresses: impl IntoIterator<Item = &'a SocketAddr>,
) -> std::io::Result<Vec<TcpListener>> {
    let addresses = addresses.into_iter();
    addresses
        .map(|address| weir_proxy::bind(*address))
        .collect()
}

fn auth(admin: &Admin) -> anyhow::Result<Auth> {
    let named = || match &admin.token_file {
        Some(file) => format!("admin.token_file {}", file.display()),
        None => "admin.token_file".to_owned(),
    };
    match admin.token().with_context(named)? {
        Some(token) => Auth::token(token.expose()).with_context(named),
        None => Ok(Auth::loopback()),
    }
}

async fn admin_api(
    listener: TcpListener,
    auth: Auth,
    control: Arc<NodeControl>,
    ends: oneshot::Receiver<()>,
) {
    let ended = async {
        // Dropping the sender is the signal.
        let _ = ends.await;
    };
    if let Err(error) = weir_admin::serve(listener, auth, control, ended).await {
        tracing::error!(%error, "the admin API ended");
    }
}

/// Reloads what has a changed file, component or certificate, and everything at SIGHUP.
async fn follow(app: Arc<App>, mut hangup: Option<Signal>) {
    let (touch, mut touched) = mpsc::channel(1);
    let mut watcher = Watcher::new(touch)
        .inspect_err(|error| tracing::warn!("{error:#}"))
        .ok();
    loop {
        let unseen = match &mut watcher {
            Some(watcher) => watcher.follow(&app.files().await),
            None => false,
        };
        let reloaded = tokio::select! {
            () = std::future::ready(()), if unseen => reload_files(&app).await,
            Some(()) = touched.recv(), if watcher.is_some() => reload_files(&app).await,
            Some(()) = hung_up(&mut hangup) => {
                tracing::info!("SIGHUP: reading the configuration again");
                app.reload().await.map(drop)
            }
            else => return,
        };
        if let Err(error) = reloaded {
            tracing::error!("not reloaded, everything stays as it was: {error:#}");
        }
    }
}

async fn reload_files(app: &App) -> anyhow::Result<()> {
    app.reload_certificates().await;
    app.reload_policies().await
}

async fn hung_up(hangup: &mut Option<Signal>) -> Option<()> {
    match hangup {
        Some(hangup) => hangup.recv().await,
        None => std::future::pending().await,
    }
}

async fn tidy(app: Arc<App>) {
    let mut ticks = tokio::time::interval(TIDY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.node.memory().maintain();
    }
}
