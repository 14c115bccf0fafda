//! Runs and restorers on a model of the cluster, cut anywhere: whoever has lost the Lease does nothing any more, but what
//! it has sent may arrive as late as it likes.

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::record;
use super::*;

/// The objects as the API server has them, what runs, and what is on its way.
#[derive(Debug, Clone)]
struct World {
    version: u32,
    replicas: i32,
    record: Option<CollectionRecord>,
    registry_pods: usize,
    job: Option<(u32, Job)>,
    job_pods: usize,
    jobs_made: u32,
    sent: Vec<Call>,
    /// Who holds the Lease, and what for. Of a run the name.
    holder: Option<Goal>,
    runs: u32,
    removals: u32,
}

/// A call to the API server, with what it was decided on.
#[derive(Debug, Clone)]
enum Call {
    Stop { version: u32, run: String },
    Create { run: String },
    Start { uid: u32 },
    Delete { uid: u32 },
    ServeReads { version: u32 },
    PutBack { version: u32 },
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// Whoever holds the Lease looks, decides, and sends a call.
    Act,
    /// The call at this place arrives.
    Arrive(usize),
    /// A pod starts or ends.
    Pod,
    /// A Job does.
    Job { fails: bool },
    /// The holder is killed, or can't renew the Lease.
    Cut,
    /// A run begins, if the Lease is free.
    Run,
    /// The controllers see a record, and take the Lease if it is free.
    Restore,
    /// `helm upgrade`.
    Upgrade,
}

impl World {
    fn new() -> Self {
        Self {
            version: 0,
            replicas: 2,
            record: None,
            registry_pods: 2,
            job: None,
            job_pods: 0,
            jobs_made: 0,
            sent: Vec::new(),
            holder: None,
            runs: 0,
            removals: 0,
        }
    }

    fn observe(&self) -> Observed {
        Observed {
            replicas: self.replicas,
            record: self.record.clone(),
            ready: i32::try_from(self.registry_pods).unwrap() == self.replicas,
            registry_pods: self.registry_pods,
            job: self.job.as_ref().map(|(_, job)| job.clone()),
            job_pods: self.job_pods,
        }
    }

    fn act(&mut self) {
        let Some(goal) = self.holder.clone() else { return };
        let seen = self.observe();
        let (version, uid) = (self.version, self.job.as_ref().map_or(0, |(uid, _)| *uid));
        let call = match next_step(&goal, &seen, None) {
            Step::Stop => {
                let Goal::Collect { run } = goal else { panic!("only a run stops the registry") };
                Call::Stop { version, run }
            }
            Step::CreateJob => {
                let Goal::Collect { run } = goal else { panic!("only a run removes anything") };
                assert_eq!((seen.registry_pods, seen.job_pods), (0, 0), "a Job is made while something runs");
                Call::Create { run }
            }
            Step::StartJob => {
                assert_eq!((seen.registry_pods, seen.job_pods), (0, 0), "a Job is started while something runs");
                Call::Start { uid }
            }
            Step::DeleteJob => Call::Delete { uid },
            Step::ServeReads => Call::ServeReads { version },
            Step::PutBack => {
                assert_eq!((&seen.job, seen.job_pods), (&None, 0), "the registry takes writes beside a Job");
                Call::PutBack { version }
            }
            Step::Wait(_) => return,
            Step::Done | Step::GiveUp(_) => {
                // A run that has ended, well or not, puts the registry back; then the Lease is free.
                self.holder = matches!(goal, Goal::Collect { .. }).then_some(Goal::Restore);
                return;
            }
        };
        self.sent.push(call);
    }

    fn arrive(&mut self, place: usize) {
        if self.sent.is_empty() {
            return;
        }
        let call = self.sent.remove(place % self.sent.len());
        match call {
            Call::Stop { version, run } if version == self.version => {
                self.record = Some(CollectionRecord { replicas: self.replicas, ..record(&run) });
                self.scale(0);
            }
            Call::ServeReads { version } if version == self.version => self.scale(self.observe().wanted()),
            Call::PutBack { version } if version == self.version => {
                self.scale(self.observe().wanted());
                self.record = None;
            }
            Call::Create { run } if self.job.is_none() => {
                self.jobs_made += 1;
                self.job = Some((self.jobs_made, Job { run, stage: Stage::Suspended }));
            }
            Call::Start { uid } => {
                let known = self.job.as_mut().filter(|(known, job)| *known == uid && job.stage == Stage::Suspended);
                if let Some((_, job)) = known {
                    job.stage = Stage::Running;
                }
            }
            Call::Delete { uid } => {
                if let Some((_, job)) = self.job.as_mut().filter(|(known, _)| *known == uid) {
                    job.stage = Stage::Ending;
                }
            }
            // Refused: it was decided on something that is so no more.
            Call::Stop { .. } | Call::ServeReads { .. } | Call::PutBack { .. } | Call::Create { .. } => {}
        }
    }

    fn scale(&mut self, replicas: i32) {
        self.replicas = replicas;
        self.version += 1;
    }

    fn pod(&mut self) {
        let wanted = usize::try_from(self.replicas).unwrap();
        match self.registry_pods.cmp(&wanted) {
            Ordering::Equal => return,
            Ordering::Greater => self.registry_pods -= 1,
            Ordering::Less => self.registry_pods += 1,
        }
        // Its status is in the same object.
        self.version += 1;
    }

    fn job(&mut self, fails: bool) {
        let Some((_, job)) = &mut self.job else { return };
        match (&job.stage, self.job_pods) {
            (Stage::Running, 0) => self.job_pods = 1,
            (Stage::Running, _) => {
                self.removals += 1;
                self.job_pods = 0;
                job.stage = if fails { Stage::Failed("it failed".to_owned()) } else { Stage::Succeeded };
            }
            (Stage::Ending, 0) => self.job = None,
            (Stage::Ending, _) => self.job_pods = 0,
            _ => {}
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Act => self.act(),
            Event::Arrive(place) => self.arrive(place),
            Event::Pod => self.pod(),
            Event::Job { fails } => self.job(fails),
            Event::Cut => self.holder = None,
            Event::Run if self.holder.is_none() => {
                self.runs += 1;
                self.holder = Some(Goal::Collect { run: format!("run-{}", self.runs) });
            }
            Event::Restore if self.holder.is_none() && self.record.is_some() => self.holder = Some(Goal::Restore),
            Event::Run | Event::Restore => {}
            Event::Upgrade => self.scale(1),
        }
        // Without a record the controllers write. Nothing may be removed then.
        let removes = self.job_pods > 0;
        assert!(!(removes && self.record.is_none()), "something is removed while images are copied: {self:?}");
    }

    /// No more accidents: what is sent arrives, pods start and end, and the controllers do their part.
    fn settle(&mut self) {
        while !self.sent.is_empty() {
            self.happen(Event::Arrive(0));
        }
        for _ in 0..60 {
            for event in [Event::Restore, Event::Act, Event::Arrive(0), Event::Pod, Event::Job { fails: false }] {
                self.happen(event);
            }
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Act),
        6 => any::<usize>().prop_map(Event::Arrive),
        4 => Just(Event::Pod),
        4 => proptest::bool::weighted(0.2).prop_map(|fails| Event::Job { fails }),
        2 => Just(Event::Cut),
        2 => Just(Event::Run),
        2 => Just(Event::Restore),
        1 => Just(Event::Upgrade),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_is_cut_wherever_the_registry_comes_back(events in vec(event(), 0..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.happen(Event::Cut);
        world.settle();
        prop_assert!(world.record.is_none(), "{:?}", world);
        prop_assert!(world.replicas > 0 && world.observe().ready, "{:?}", world);
        // One that arrived when all was over never runs, and the next run deletes it.
        let stage = world.job.as_ref().map(|(_, job)| job.stage.clone());
        prop_assert!(matches!(stage, None | Some(Stage::Suspended)), "{:?}", world);
    }
}

#[test]
fn a_run_that_nothing_disturbs_removes_once() {
    let mut world = World::new();
    world.happen(Event::Run);
    world.settle();
    assert_eq!((world.removals, world.jobs_made), (1, 1));
    assert_eq!((world.replicas, world.record, world.job), (2, None, None));
}

#[test]
fn the_next_run_starts_clean_after_one_that_was_cut_while_it_removed() {
    let mut world = World::new();
    world.happen(Event::Run);
    while world.job_pods == 0 {
        for event in [Event::Act, Event::Arrive(0), Event::Pod, Event::Job { fails: false }] {
            world.happen(event);
        }
    }
    world.happen(Event::Cut);
    world.happen(Event::Run);
    world.settle();
    assert_eq!((world.removals, world.jobs_made), (1, 2));
    assert_eq!((world.replicas, world.record, world.job), (2, None, None));
}
