use std::collections::BTreeSet;
use std::time::Duration;

use cache_registry_api::labels::{EXPIRY_DELAY_ANNOTATION, UPDATE_INTERVAL_ANNOTATION};
use cache_registry_api::{CachedImage, CachedImageStatus, READY, UP_TO_DATE, UsedBy};
use cache_registry_core::{Location, Reason, Reference, parse_duration};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tokio::time::Instant;

use crate::capacity::LEAST_UNUSED;
use crate::freshness::{Freshness, Next};
use crate::retention::{Expiry, Use, expiry};

/// How long the registry's last answer about an image is good for. The controllers spread it by a tenth.
pub(crate) const CHECK_EVERY: Duration = Duration::from_hours(1);

/// A check sooner than this after the one that the status tells of is not worth a write: every new leader checks all
/// images, and where nothing changes nothing is written all day.
const CHECK_WORTH_TELLING: Duration = Duration::from_hours(23);

/// Of what pods ask for that get one image: a policy that maps everything to one must not fill its status.
pub(crate) const MOST_ORIGINALS: usize = 20;

/// What this process knows about an image and its status need not say. It is forgotten with the process; whatever the
/// status says then, the registry is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// The registry was not asked yet.
    Unknown,
    /// The registry was asked, and does not have it.
    Missing,
    /// It is to be copied, and others are first.
    Waiting,
    /// It is being copied.
    Copying,
    /// The registry is being asked whether it still has it.
    Checking,
    /// The registry has it.
    Cached {
        /// What the last copy found, until a check takes its place.
        copied: Option<Kept>,
        /// When the registry said so.
        checked: Timestamp,
        /// When to ask again.
        check_at: Instant,
    },
    /// The last attempt failed.
    Failed {
        /// At what.
        task: Task,
        /// Why.
        failure: Failure,
        /// When to try again.
        retry_at: Instant,
    },
}

/// What is done for an image outside the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Copy it into the registry.
    Copy,
    /// Ask the registry whether it still has it.
    Check,
    /// Ask upstream what it means by the tag now.
    Ask,
    /// Copy what upstream means by the tag now, while the registry has what it meant before.
    Update,
}

impl Task {
    /// The word for it in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Check => "check",
            Self::Ask => "ask",
            Self::Update => "update",
        }
    }
}

/// What a copy left in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) digest: String,
    pub(crate) size: i64,
    pub(crate) platforms: Vec<String>,
    /// What there is to be said about it.
    pub(crate) notes: Vec<String>,
    pub(crate) at: Timestamp,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// For whoever reads the status: what happened, and what to do.
    pub(crate) message: String,
    /// How long the registry asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// The time, twice: what is due goes by a clock that nobody sets, and a status tells the time of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { instant: Instant::now(), time: Timestamp::now() }
    }
}

/// What [`plan`] goes by, apart from the object.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) standing: &'a Standing,
    /// `None` while it is not known: then what the status says stays.
    pub(crate) used_by: Option<UsedBy>,
    pub(crate) used: Use,
    /// What pods ask for that get this image.
    pub(crate) originals: Vec<String>,
    /// How long an image stays that nothing uses, unless it says otherwise itself.
    pub(crate) expiry_delay: Duration,
    /// True when it goes as soon as nothing uses it for long enough to be believed: others need the room.
    pub(crate) makes_room: bool,
    /// False while its end is being seen to already, or could not be seen to a moment ago.
    pub(crate) may_expire: bool,
    pub(crate) freshness: &'a Freshness,
    /// How often upstream is asked what it means by a tag, unless the image says otherwise itself.
    pub(crate) update_interval: Duration,
    /// Until when upstream asked to be left alone.
    pub(crate) quiet_until: Option<Instant>,
}

/// What to do about an image now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Begin a task. It changes the standing, so plan again afterwards.
    Start(Task),
    /// Its time is over: look afresh whether anything uses it, and remove it where nothing does.
    Expire,
    /// Let the status say how things stand.
    Report {
        /// What to write; `None` where the status says it already.
        status: Option<Box<CachedImageStatus>>,
        /// When to plan again, should nothing happen before.
        wake: Option<Instant>,
    },
}

/// Decides what to do about an image.
pub(crate) fn plan(image: &CachedImage, now: Now, facts: &Facts<'_>) -> Action {
    if image.metadata.deletion_timestamp.is_some() {
        return Action::Report { status: None, wake: None };
    }
    let source: Reference = match image.spec.source_image.parse() {
        Ok(source) => source,
        Err(error) => {
            let message = format!("{error}. Delete this CachedImage, and create one with a full reference.");
            return report(image, now, facts, Some(Ready::failed(Reason::InvalidReference, message)), None);
        }
    };
    let due = matches!(expiry_of(image, now, facts), Expiry::At { expires_at, .. } if expires_at <= now.time);
    if due && facts.may_expire {
        return Action::Expire;
    }
    let copy = || match facts.quiet_until.filter(|until| *until > now.instant) {
        None => Action::Start(Task::Copy),
        Some(until) => {
            let message = format!("{} asks to be left alone for a while, for whatever image.", source.registry());
            report(image, now, facts, Some(Ready::failed(Reason::RateLimited, message)), Some(until))
        }
    };
    match facts.standing {
        Standing::Unknown if says_cached(image) => Action::Start(Task::Check),
        Standing::Unknown | Standing::Missing => copy(),
        Standing::Waiting => {
            let message = format!("Waiting for its turn to be copied from {}.", source.registry());
            report(image, now, facts, copying(image, message), None)
        }
        Standing::Copying => {
            let message = format!("Copying from {}.", source.registry());
            report(image, now, facts, copying(image, message), None)
        }
        Standing::Checking => report(image, now, facts, None, None),
        Standing::Cached { copied: None, .. } if digest(image).is_none() => copy(),
        Standing::Cached { check_at, .. } => cached(image, &source, now, facts, *check_at),
        Standing::Failed { task, retry_at, .. } if *retry_at <= now.instant => match task {
            Task::Copy => copy(),
            task => Action::Start(*task),
        },
        Standing::Failed { task: Task::Copy, failure, retry_at } => {
            let message = format!("{} It is tried again without being asked.", sentence(&failure.message));
            report(image, now, facts, Some(Ready::failed(failure.reason, message)), Some(*retry_at))
        }
        // The image was there, and whether it is now cannot be seen: that is not the same as being gone.
        Standing::Failed { failure, retry_at, .. } => {
            let message = format!("Whether it is still there is not known. {}", sentence(&failure.message));
            let ready = Ready { status: "Unknown", reason: failure.reason, message };
            report(image, now, facts, Some(ready), Some(*retry_at))
        }
    }
}

/// The registry has the image, and is to be asked again at `check_at`.
fn cached(image: &CachedImage, source: &Reference, now: Now, facts: &Facts<'_>, check_at: Instant) -> Action {
    let interval = own_update_interval(image).and_then(Result::ok).unwrap_or(facts.update_interval);
    let next = facts.freshness.next(interval, now.instant);
    let quiet_until = facts.quiet_until.filter(|until| *until > now.instant);
    let wake = match (next, quiet_until) {
        // One thing after the other: what is under way comes back here.
        _ if facts.freshness.is_under_way() => None,
        (_, _) if check_at <= now.instant => return Action::Start(Task::Check),
        (Next::Wait, _) => Some(check_at),
        (Next::At(at), _) => Some(check_at.min(at)),
        (Next::Ask | Next::Update, Some(until)) => Some(check_at.min(until)),
        (Next::Ask, None) => return Action::Start(Task::Ask),
        (Next::Update, None) => return Action::Start(Task::Update),
    };
    let message = format!("The registry has it as {}.", Location::of(source));
    report(image, now, facts, Some(Ready { status: "True", reason: Reason::Cached, message }), wake)
}

/// How often upstream is asked about the image, where it says so itself. An error says what is wrong with that.
pub(crate) fn own_update_interval(image: &CachedImage) -> Option<Result<Duration, String>> {
    image.metadata.annotations.as_ref()?.get(UPDATE_INTERVAL_ANNOTATION).map(|text| parse_duration(text))
}

/// How long the image stays when nothing uses it, where it says so itself. An error says what is wrong with that.
pub(crate) fn own_expiry_delay(image: &CachedImage) -> Option<Result<Duration, String>> {
    image.metadata.annotations.as_ref()?.get(EXPIRY_DELAY_ANNOTATION).map(|text| parse_duration(text))
}

fn expiry_of(image: &CachedImage, now: Now, facts: &Facts<'_>) -> Expiry {
    let mut delay = own_expiry_delay(image).and_then(Result::ok).unwrap_or(facts.expiry_delay);
    if facts.makes_room {
        delay = delay.min(LEAST_UNUSED);
    }
    let since = image.status.as_ref().and_then(|status| status.unused_since.as_ref()).map(|since| since.0);
    expiry(facts.used, image.spec.retain, delay, since, now.time)
}

/// The reason that a status gives, where it is one of ours.
pub(crate) fn reason(status: &CachedImageStatus) -> Option<Reason> {
    status.ready().and_then(|ready| Reason::from_word(&ready.reason))
}

struct Ready {
    status: &'static str,
    reason: Reason,
    message: String,
}

impl Ready {
    fn failed(reason: Reason, message: String) -> Self {
        Self { status: "False", reason, message }
    }
}

fn digest(image: &CachedImage) -> Option<&str> {
    image.status.as_ref()?.digest.as_deref()
}

fn ready(image: &CachedImage) -> Option<&Condition> {
    image.status.as_ref()?.ready()
}

/// True when the status tells of an image in the registry: it is or was there, and its digest is known.
fn says_cached(image: &CachedImage) -> bool {
    digest(image).is_some() && ready(image).is_some_and(|ready| ready.status != "False")
}

/// What to say while it is copied. An attempt after a failure leaves the failure standing until it has ended: a status
/// that flips at every attempt would tell nobody anything, and cost two writes each time.
fn copying(image: &CachedImage, message: String) -> Option<Ready> {
    let failed = ready(image)
        .filter(|ready| ready.status == "False")
        .is_some_and(|ready| ready.reason != Reason::Copying.as_str());
    (!failed).then(|| Ready::failed(Reason::Copying, message))
}

fn report(image: &CachedImage, now: Now, facts: &Facts<'_>, ready: Option<Ready>, wake: Option<Instant>) -> Action {
    let before = image.status.clone().unwrap_or_default();
    let mut status = before.clone();
    if let Some(used_by) = &facts.used_by {
        status.used_by = Some(used_by.clone());
    }
    status.originals = originals(&before, &facts.originals);
    let mut wake = wake;
    match expiry_of(image, now, facts) {
        Expiry::Unknown => {}
        Expiry::Never => (status.unused_since, status.expires_at) = (None, None),
        Expiry::At { unused_since, expires_at } => {
            status.unused_since = Some(time(unused_since));
            status.expires_at = Some(time(expires_at));
            let left = Duration::try_from(expires_at.duration_since(now.time)).unwrap_or_default();
            // A clock that is set forward must not go unnoticed for long.
            let look = now.instant + left.min(CHECK_EVERY);
            if facts.may_expire {
                wake = Some(wake.map_or(look, |wake| wake.min(look)));
            }
        }
    }
    if let Standing::Cached { copied, checked, .. } = facts.standing {
        let worth_telling = |last: &Time| checked.duration_since(last.0).unsigned_abs() >= CHECK_WORTH_TELLING;
        if copied.is_some() || status.last_checked.as_ref().is_none_or(worth_telling) {
            status.last_checked = Some(time(*checked));
        }
        if let Some(kept) = copied {
            status.digest = Some(kept.digest.clone());
            status.size = Some(kept.size);
            status.platforms.clone_from(&kept.platforms);
            status.notes.clone_from(&kept.notes);
            status.last_copied = Some(time(kept.at));
        }
    }
    // Of a digest it is only told that what is wanted of it could not be had, until it could.
    if *facts.freshness == Freshness::Fixed {
        status.conditions.retain(|condition| condition.type_ != UP_TO_DATE);
    }
    let generation = image.metadata.generation;
    let mut say = |type_: &str, says: &str, reason: &str, message: String| {
        let last = before.conditions.iter().find(|last| last.type_ == type_ && last.status == says);
        let condition = Condition {
            type_: type_.to_owned(),
            status: says.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: last.map_or_else(|| time(now.time), |last| last.last_transition_time.clone()),
        };
        match status.conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(last) => *last = condition,
            None => status.conditions.push(condition),
        }
    };
    if let Some(ready) = ready {
        say(READY, ready.status, ready.reason.as_str(), ready.message);
    }
    let registry = image.spec.source_image.split('/').next().unwrap_or_default();
    if let Some(told) = facts.freshness.told(registry) {
        say(UP_TO_DATE, told.status, told.reason, told.message);
    }
    status.observed_generation = generation;
    let changed = image.status.is_none() || status != before;
    Action::Report { status: changed.then(|| Box::new(status)), wake }
}

/// What the status said, and what has become known since. In order, so that the same ones are the same list.
fn originals(before: &CachedImageStatus, found: &[String]) -> Vec<String> {
    let all: BTreeSet<_> = before.originals.iter().chain(found).collect();
    all.into_iter().take(MOST_ORIGINALS).cloned().collect()
}

/// A time as the API server keeps it, in whole seconds: anything finer would differ from what is read back.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn sentence(message: &str) -> String {
    let message = message.trim_end();
    if message.ends_with(['.', '!', '?']) { message.to_owned() } else { format!("{message}.") }
}

#[cfg(test)]
mod history;
#[cfg(test)]
mod tests;
