//! The life of one image, as a history of everything that can happen around it, decided by [`plan`] at each step.

use cache_registry_api::CachedImageSpec;
use cache_registry_registry::Copied;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::advance;

use super::*;
use crate::copier::Found;
use crate::metrics::Metrics;
use crate::tracked::Tracked;

const SOURCE: &str = "docker.io/library/nginx:1.27";
const DELAY: Duration = Duration::from_hours(24);
const INTERVAL: Duration = Duration::from_hours(1);

/// What happens around it.
#[derive(Debug, Clone)]
enum Happening {
    /// A pod or a workload that uses it comes or goes.
    Use(bool),
    /// The watches tell of that, or begin anew and know nothing.
    Watch(bool),
    /// Upstream has this under the tag from now on.
    Move(u8),
    Upstream(Mood),
    Registry(Mood),
    /// The registry loses all that it has.
    Wipe,
    Retain(bool),
    /// It is one of those that have to make room, or not any more.
    Room(bool),
    /// What is under way ends.
    End,
    /// Time goes by.
    Wait(u32),
    /// Somebody sets the clock of the wall.
    Clock(i32),
    /// Another leader begins, which knows nothing but the objects.
    Lead,
}

/// How a registry feels.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Gone,
    Limiting,
    /// Of upstream: it has no such tag any more.
    Without,
}

fn happening() -> impl Strategy<Value = Happening> {
    let mood = || prop_oneof![Just(Mood::Well), Just(Mood::Gone), Just(Mood::Limiting), Just(Mood::Without)];
    prop_oneof![
        3 => any::<bool>().prop_map(Happening::Use),
        3 => prop_oneof![9 => Just(true), 1 => Just(false)].prop_map(Happening::Watch),
        1 => (0_u8..3).prop_map(Happening::Move),
        2 => mood().prop_map(Happening::Upstream),
        1 => prop_oneof![Just(Mood::Well), Just(Mood::Gone)].prop_map(Happening::Registry),
        1 => Just(Happening::Wipe),
        1 => any::<bool>().prop_map(Happening::Retain),
        1 => any::<bool>().prop_map(Happening::Room),
        5 => Just(Happening::End),
        3 => (0_u32..100_000).prop_map(Happening::Wait),
        1 => (-200_000_i32..200_000).prop_map(Happening::Clock),
        1 => Just(Happening::Lead),
    ]
}

struct World {
    /// `None` once it was deleted.
    tracked: Option<Tracked>,
    in_use: bool,
    seen: Use,
    upstream: (Mood, u8),
    registry: (Mood, Option<String>),
    /// The wall's clock is that far from the other one.
    drift: i64,
    began: Instant,
    /// What is under way.
    running: Option<Task>,
    makes_room: bool,
    quiet_until: Option<Instant>,
    metrics: Metrics,
    writes: usize,
}

fn digest(number: u8) -> String {
    format!("sha256:{number:064x}")
}

fn failure(reason: Reason) -> Failure {
    let retry_after = (reason == Reason::RateLimited).then_some(Duration::from_mins(1));
    Failure { reason, message: "It broke.".to_owned(), retry_after }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            tracked: None,
            in_use: true,
            seen: Use::Unknown,
            upstream: (Mood::Well, 0),
            registry: (Mood::Well, None),
            drift: 0,
            began: Instant::now(),
            running: None,
            makes_room: false,
            quiet_until: None,
            metrics: Metrics::register(&mut Registry::default()),
            writes: 0,
        };
        world.create();
        world
    }

    /// What the reconciler does where a pod uses an image that has no `CachedImage`.
    fn create(&mut self) {
        let image = CachedImage::new("nginx", CachedImageSpec { source_image: SOURCE.to_owned(), retain: false });
        self.lead(image);
    }

    /// A leader that knows nothing of it beside the object.
    fn lead(&mut self, image: CachedImage) {
        self.running = None;
        self.quiet_until = None;
        self.tracked = Some(Tracked::new(image, SOURCE.parse().ok()));
    }

    fn now(&self) -> Now {
        let instant = Instant::now();
        let seconds = i64::try_from(instant.duration_since(self.began).as_secs()).unwrap();
        // Far from the beginning of time, wherever the clock is set to.
        Now { instant, time: Timestamp::from_second(1_000_000_000 + seconds + self.drift).unwrap() }
    }

    /// The decision for the moment.
    fn decide(&self) -> Option<Action> {
        let (tracked, now) = (self.tracked.as_ref()?, self.now());
        let facts = Facts {
            standing: &tracked.standing,
            used_by: (self.seen != Use::Unknown).then(UsedBy::default),
            used: self.seen,
            originals: Vec::new(),
            expiry_delay: DELAY,
            makes_room: self.makes_room,
            may_expire: tracked.expire_after.is_none_or(|after| after <= now.instant),
            freshness: &tracked.freshness,
            update_interval: INTERVAL,
            quiet_until: self.quiet_until,
        };
        Some(plan(&tracked.image, now, &facts))
    }

    /// Does what is decided, until there is nothing to be done at this moment.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..20 {
            match self.decide() {
                Some(Action::Start(task)) => {
                    prop_assert!(self.running.is_none(), "{task:?} is begun beside {:?}", self.running);
                    self.running = Some(task);
                    let tracked = self.tracked.as_mut().unwrap();
                    match task {
                        Task::Copy => tracked.standing = Standing::Copying,
                        Task::Check => tracked.standing = Standing::Checking,
                        Task::Ask => tracked.freshness = Freshness::Asking,
                        Task::Update => tracked.freshness = Freshness::Copying,
                    }
                }
                Some(Action::Expire) => self.expire()?,
                Some(Action::Report { status: Some(status), .. }) => {
                    self.writes += 1;
                    self.tracked.as_mut().unwrap().image.status = Some(*status);
                }
                Some(Action::Report { status: None, .. }) | None => return Ok(()),
            }
        }
        Err(TestCaseError::fail(format!("it does not come to rest: {:?}", self.decide())))
    }

    /// What is in use is looked at afresh, and there the truth shows.
    fn expire(&mut self) -> Result<(), TestCaseError> {
        let tracked = self.tracked.as_mut().unwrap();
        prop_assert!(!tracked.image.spec.retain, "it is retained");
        prop_assert_eq!(self.seen, Use::Unused, "nobody could know that");
        if self.in_use {
            tracked.expire_after = Some(Instant::now() + Duration::from_secs(30));
            return Ok(());
        }
        self.tracked = None;
        self.running = None;
        self.registry.1 = None;
        Ok(())
    }

    fn end(&mut self) {
        let (Some(task), Some(tracked)) = (self.running.take(), self.tracked.as_mut()) else { return };
        let from_upstream = match self.upstream {
            (Mood::Well, number) => Ok(digest(number)),
            (Mood::Gone, _) => Err(failure(Reason::UpstreamUnreachable)),
            (Mood::Limiting, _) => Err(failure(Reason::RateLimited)),
            (Mood::Without, _) => Err(failure(Reason::NotFound)),
        };
        if matches!(&from_upstream, Err(failure) if failure.reason == Reason::RateLimited) && task != Task::Check {
            self.quiet_until = Some(Instant::now() + Duration::from_mins(1));
        }
        let is_well = self.registry.0 == Mood::Well;
        match task {
            Task::Ask => tracked.asked(from_upstream),
            Task::Check => {
                let unreachable = Err(failure(Reason::RegistryUnreachable));
                let found = self.registry.1.clone().map_or(Found::Nothing, |digest| Found::Manifest(Some(digest)));
                tracked.checked(if is_well { Ok(found) } else { unreachable }, &self.metrics);
            }
            Task::Copy | Task::Update => {
                let outcome = if is_well { from_upstream } else { Err(failure(Reason::RegistryUnreachable)) };
                if let Ok(digest) = &outcome {
                    self.registry.1 = Some(digest.clone());
                }
                let outcome = outcome.map(|digest| Copied {
                    digest: digest.parse().unwrap(),
                    size: 1,
                    platforms: Vec::new(),
                    bytes_uploaded: 1,
                    notes: Vec::new(),
                });
                tracked.copied(task, Duration::ZERO, outcome, &self.metrics);
            }
        }
    }

    async fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Use(in_use) => self.in_use = in_use,
            Happening::Watch(false) => self.seen = Use::Unknown,
            Happening::Watch(true) => {
                self.seen = if self.in_use { Use::Used } else { Use::Unused };
                if self.in_use && self.tracked.is_none() {
                    self.create();
                }
            }
            Happening::Move(number) => self.upstream.1 = number,
            Happening::Upstream(mood) => self.upstream.0 = mood,
            Happening::Registry(mood) => self.registry.0 = mood,
            Happening::Wipe => self.registry.1 = None,
            Happening::Retain(retain) => {
                if let Some(tracked) = &mut self.tracked {
                    tracked.image.spec.retain = retain;
                }
            }
            Happening::Room(makes_room) => self.makes_room = makes_room,
            Happening::End => self.end(),
            Happening::Wait(seconds) => advance(Duration::from_secs(seconds.into())).await,
            Happening::Clock(by) => self.drift += i64::from(by),
            Happening::Lead => {
                if let Some(tracked) = self.tracked.take() {
                    self.lead(tracked.image);
                }
            }
        }
    }

    /// All is well again, and some hours go by.
    async fn all_is_well(&mut self) -> Result<(), TestCaseError> {
        (self.upstream.0, self.registry.0) = (Mood::Well, Mood::Well);
        self.in_use = true;
        self.happens(Happening::Watch(true)).await;
        for _ in 0..60 {
            self.settle()?;
            self.end();
            self.settle()?;
            advance(Duration::from_mins(3)).await;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens, and in whatever order: nothing goes that is in use, is retained, or of which that is not known;
    /// and when all is well again, the registry has what upstream has, the status says so, and nothing is written.
    #[test]
    fn nothing_in_use_goes_and_all_comes_right_in_the_end(history in prop::collection::vec(happening(), 1..80)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            world.settle()?;
            for happening in history {
                world.happens(happening).await;
                world.settle()?;
            }
            world.all_is_well().await?;
            let expected = digest(world.upstream.1);
            prop_assert_eq!(world.registry.1.as_ref(), Some(&expected));
            let status = world.tracked.as_ref().unwrap().image.status.clone().unwrap();
            prop_assert_eq!(status.digest.as_ref(), Some(&expected));
            for condition in &status.conditions {
                prop_assert_eq!(&condition.status, "True", "{:?}", condition);
            }
            prop_assert!(status.expires_at.is_none() && status.unused_since.is_none());
            let writes = world.writes;
            world.all_is_well().await?;
            prop_assert_eq!(world.writes, writes, "at rest nothing is written");
            Ok(())
        })?;
    }
}
