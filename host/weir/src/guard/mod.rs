//! Takes a version back that misbehaves, and tries it again later: an error budget, with
//! quarantine. Looks four times a second, and when a call has cost an instance.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use weir_policy::{CallErrorKind, Engine, Hook, Policy};
use weir_proxy::TrialMode;

use crate::app::{App, State};
use crate::config::Guard;
use crate::policies::{Entry, Quarantine};

mod budget;

use budget::{Broken, Budget, Counts, Ratios};

/// How often the versions are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The least time between two looks: failures may come by the thousand.
const PAUSE: Duration = Duration::from_millis(5);
/// The percentage of clients or calls that a version in quarantine is tried again with.
const PROBE: u8 = 10;
/// The longest wait before another try.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Watches the policies of a node until it is gone.
pub(crate) fn start(app: &Arc<App>) {
    let engine = app.loader().engine().clone();
    tokio::spawn(watch(Arc::downgrade(app), engine));
}

async fn watch(app: Weak<App>, engine: Engine) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = Watched::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = engine.costly_failure() => {}
        }
        let Some(app) = app.upgrade() else {
            return;
        };
        // While a component is loaded it is somebody else's turn.
        if let Some(mut state) = app.try_state() {
            watched.look(&app, &mut state).await;
        }
        drop(app);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who is followed: the version in force of each policy, and the one on trial.
#[derive(Debug, Default)]
struct Watched {
    live: HashMap<String, Followed>,
    tried: HashMap<String, Followed>,
    /// All that were ever followed, by serial.
    seen: HashSet<u64>,
}

#[derive(Debug)]
struct Followed {
    /// Serial, and the percentage that was let in: let in again, it is judged by what it does
    /// from then on.
    policy: (u64, u8),
    budget: Budget,
}

/// What is to be done about a policy.
enum Step {
    EndTrial(Broken),
    Back(Broken),
    Suspend(Broken),
    /// A version that was tried again did well.
    Restore,
    /// A wait is over.
    TryAgain,
}

impl Watched {
    async fn look(&mut self, app: &Arc<App>, state: &mut State) {
        let names: Vec<String> = state
            .policies
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        self.live.retain(|name, _| names.contains(name));
        for name in &names {
            let Some(entry) = state.policies.get(name) else {
                continue;
            };
            let Some(step) = self.step(name, entry) else {
                continue;
            };
            act(app, state, name, step).await;
            if let Some(entry) = state.policies.get(name) {
                // Seen as it is now: somebody may undo it before the next look, and what comes
                // then is not to be judged by what was before.
                self.step(name, entry);
            }
        }
    }

    fn step(&mut self, name: &str, entry: &Entry) -> Option<Step> {
        let (rules, now) = (&entry.config.guard, moment());
        let trial = entry.trial();
        if trial.is_none() {
            self.tried.remove(name);
        }
        if let Some(trial) = trial {
            // One that is not called says nothing of what is usual.
            let live = match (self.live.get(name), entry.policy().admitted()) {
                (Some(live), 100) => live.budget.ratios(rules.min_calls),
                _ => Ratios::default(),
            };
            let live = Some(live);
            let broken = follow(
                &mut self.tried,
                &mut self.seen,
                name,
                &trial.policy,
                rules,
                live,
            );
            let canary = trial.mode == TrialMode::Canary;
            if let (Some(broken), true) = (broken, canary) {
                return Some(Step::EndTrial(broken));
            }
            let retried = entry
                .quarantine()
                .is_some_and(|one| one.version == trial.policy.version());
            let seen = self.tried.get(name).map(|followed| followed.budget.seen());
            if canary && retried && seen.is_some_and(|seen| seen.asked >= rules.min_calls) {
                return Some(Step::Restore);
            }
        }
        let broken = follow(
            &mut self.live,
            &mut self.seen,
            name,
            entry.policy(),
            rules,
            None,
        );
        let suspended = entry.policy().admitted() < 100;
        match (broken, entry.quarantine()) {
            (Some(broken), _) if !suspended => Some(match entry.previous() {
                Some(_) => Step::Back(broken),
                None => Step::Suspend(broken),
            }),
            // It was let in again for a part of the calls.
            (Some(broken), _) if entry.policy().admitted() > 0 => Some(Step::Suspend(broken)),
            (None, Some(_)) if suspended && entry.policy().admitted() > 0 => {
                let budget = &self.live.get(name)?.budget;
                budget.is_tested(rules).then_some(Step::Restore)
            }
            // One that is not called is in nobody's way, and a trial may take long.
            (_, Some(quarantine))
                if now >= quarantine.due && (trial.is_none() || entry.policy().admitted() == 0) =>
            {
                Some(Step::TryAgain)
            }
            _ => None,
        }
    }
}

/// Looks at one version; a new one begins anew. One on trial is compared with what is `live`
/// beside it, another with who was there before it.
fn follow(
    all: &mut HashMap<String, Followed>,
    seen: &mut HashSet<u64>,
    name: &str,
    policy: &Policy,
    rules: &Guard,
    live: Option<Ratios>,
) -> Option<Broken> {
    let (now, counts) = (moment(), called(policy));
    let followed = (policy.serial(), policy.admitted());
    let known = all.get(name);
    if let Some(known) = known
        && known.policy == followed
    {
        return all.get_mut(name)?.budget.look(now, counts, rules, live);
    }
    let is_new = seen.insert(policy.serial());
    let before = known.and_then(|known| match known.policy {
        // Let in for another part of the calls, it is still compared with the one before.
        (serial, _) if serial == policy.serial() => known.budget.before(),
        // One that comes back does so because the other was not good enough.
        (_, 100) if is_new => Some(known.budget.ratios(rules.min_calls)),
        _ => None,
    });
    // What a new one did before it was first looked at counts too. One that comes back, or
    // is let in again, begins anew.
    let first = match is_new {
        true => Counts::default(),
        false => counts,
    };
    let budget = Budget::new(now, first, before).admitting(policy.admitted());
    let policy = followed;
    all.insert(name.to_owned(), Followed { policy, budget });
    None
}

async fn act(app: &Arc<App>, state: &mut State, name: &str, step: Step) {
    let Some(entry) = state.policies.get(name) else {
        return;
    };
    let (rules, known) = (entry.config.guard, entry.quarantine().cloned());
    let version = entry.policy().version().to_owned();
    let quarantine = |version: &str, why: &Broken| {
        // Each time in a row twice as long.
        let last = known.as_ref().filter(|known| known.version == version);
        let wait = last.map_or(rules.retry_after, |last| {
            (last.wait * 2).min(LONGEST_WAIT.max(rules.retry_after))
        });
        Quarantine {
            version: version.to_owned(),
            why: why.text.clone(),
            wait,
            due: moment() + wait,
        }
    };
    // Whose waiting calls are given up, once no request goes there.
    let mut fails = None;
    match step {
        Step::EndTrial(broken) => {
            fails = entry.trial().map(|trial| trial.policy.clone());
            let tried = fails.as_ref().map(|policy| policy.version().to_owned());
            let Some(back) = state.policies.roll_back(name) else {
                return;
            };
            if let Some(tried) =
                tried.filter(|tried| known.as_ref().is_some_and(|known| known.version == *tried))
            {
                state.policies.quarantine(name, quarantine(&tried, &broken));
            }
            app.rolled_back(name, back, broken.rule, Some(broken.text));
        }
        Step::Back(broken) => {
            fails = Some(entry.policy().clone());
            let Some(to) = state.policies.take_back(name) else {
                return;
            };
            state
                .policies
                .quarantine(name, quarantine(&version, &broken));
            tracing::error!(
                policy = name,
                version,
                to,
                rule = broken.rule,
                why = broken.text,
                "the version misbehaves: the one before is in force again"
            );
            let why = Some(broken.text);
            app.write_down(name, "quarantined", broken.rule, &version, Some(&to), why);
        }
        Step::Suspend(broken) => {
            entry.policy().admit(0);
            let trial = entry.trial().map(|trial| trial.policy.version());
            // It could not be told any more from one that somebody began.
            let is_retry = known
                .as_ref()
                .is_some_and(|known| trial == Some(&*known.version));
            if is_retry && let Some(ended) = state.policies.roll_back(name) {
                let why = Some("the version in force is in quarantine itself".to_owned());
                app.rolled_back(name, ended, "retry", why);
            }
            state
                .policies
                .quarantine(name, quarantine(&version, &broken));
            tracing::error!(
                policy = name,
                version,
                rule = broken.rule,
                why = broken.text,
                "the policy misbehaves and there is no version before it: it is not called for a while"
            );
            app.write_down(
                name,
                "quarantined",
                broken.rule,
                &version,
                None,
                Some(broken.text),
            );
            if !is_retry {
                return;
            }
        }
        Step::Restore if entry.policy().admitted() < 100 => {
            entry.policy().admit(100);
            state.policies.release_quarantine(name);
            let why = Some("it does well again".to_owned());
            app.write_down(name, "restored", "retry", &version, None, why);
            return;
        }
        Step::Restore => match state.policies.promote(app.loader(), name, None).await {
            Ok((to, from)) => {
                app.write_down(name, "promoted", "retry", &to, Some(&from), None);
            }
            Err(error) => {
                tracing::warn!(policy = name, %error, "a version in quarantine did well and cannot be put in force");
                return;
            }
        },
        Step::TryAgain if entry.policy().admitted() == 0 => {
            entry.policy().admit(PROBE);
            let detail = Some(format!("{PROBE} percent of the calls of on-request"));
            app.write_down(name, "retried", "retry", &version, None, detail);
            return;
        }
        Step::TryAgain => {
            let Some(known) = known else {
                return;
            };
            let (loader, tried) = (app.loader(), Some(&*known.version));
            let (mode, percent) = (TrialMode::Canary, f64::from(PROBE));
            let begun = state
                .policies
                .try_out(loader, name, tried, mode, percent)
                .await;
            if let Err(error) = begun {
                tracing::warn!(policy = name, %error, "a version in quarantine cannot be tried again");
                state.policies.release_quarantine(name);
                return;
            }
            let detail = Some(format!("{PROBE} percent, out of quarantine"));
            app.write_down(name, "canary", "retry", &known.version, None, detail);
        }
    }
    if let Err(error) = app.install(state) {
        tracing::error!(policy = name, %error, "the routes cannot be put together");
    }
    if let Some(fails) = fails {
        fails.spare();
    }
}

/// Time since the process began to ask.
fn moment() -> Duration {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// What a version counts, and what came of it. To find all instances in use is no fault of its own.
fn called(policy: &Policy) -> Counts {
    let mut counts = Counts {
        asked: policy.recalled(),
        spared: policy.spared(),
        ..Counts::default()
    };
    // An instance that cannot be made fails the call which wanted it.
    for hook in Hook::ALL
        .into_iter()
        .filter(|hook| *hook != Hook::Configure)
    {
        let stats = policy.stats().hook(hook);
        let busy = stats.errors(CallErrorKind::Busy);
        let failed: u64 = stats.failures().map(|(_, count)| count).sum();
        let (calls, failed) = (
            stats.calls().saturating_sub(busy),
            failed.saturating_sub(busy),
        );
        counts.asked += calls;
        counts.failed += failed;
        counts.calls += calls;
        counts.time += stats.total_time();
        if hook == Hook::OnRequest {
            (counts.decisions, counts.undecided) = (calls, failed);
            counts.deciding = stats.total_time();
        }
    }
    let outcomes = policy.stats().outcomes();
    (counts.lookups, counts.hits) = outcomes.lookups();
    (counts.answers, counts.errors) = outcomes.answers();
    counts
}
